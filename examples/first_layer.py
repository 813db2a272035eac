"""A first spiking layer: current in, spikes out, a gradient back, and state from call to call.

python examples/first_layer.py
"""

import math

import torch

from hnn_kernels import nn

STEPS, BATCH, NEURONS = 25, 8, 100

# A membrane with a time constant of 10 steps keeps exp(-1 / 10) = 0.905 of its potential from step to step.
layer = nn.LIF(decay=math.exp(-1 / 10), reset="subtract")

# Time comes first: [T, B, features]. The current is in units of the threshold.
current = (0.3 * torch.rand(STEPS, BATCH, NEURONS)).requires_grad_()
spikes = layer(current)
print(f"{tuple(spikes.shape)}, {spikes.mean():.1%} of the neurons fire at a step")

# Backward goes through all steps, in one kernel.
spikes.sum().backward()
print(f"gradient of the current: {tuple(current.grad.shape)}, mean {current.grad.mean():.3f}")

# A layer keeps no state. Who wants to go on from where a call ended takes the state and hands it back.
with torch.no_grad():
    first, state = layer(current[:10], return_state=True)
    rest = layer(current[10:], state=state)
    assert torch.equal(torch.cat([first, rest]), spikes)

# An image that is the same at every step needs no time axis: it is read once.
image = 0.3 * torch.rand(BATCH, NEURONS)
print(f"constant input: {tuple(layer(image, steps=STEPS).shape)}")
