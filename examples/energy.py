"""Energy of a model: spikes, operations and energy of each layer, beside the same network with artificial layers.

    python examples/energy.py

The energies are estimates from published costs of an operation (Horowitz 2014, 45 nm). `hnn profile` prints the same
for a checkpoint.
"""

import torch
from torch.nn.functional import cross_entropy

from hnn_models import HybridNetwork, load_images, profile_module
from hnn_models.analysis.costs import Costs, total
from hnn_models.analysis.energy import all_artificial

torch.manual_seed(0)
images = load_images("digits")
network = HybridNetwork("A64-S128-S10", images.shape, steps=10)  # of a checkpoint: hnn_models.load(path).network

# A few steps of training: most neurons of a network with its first weights are silent, and cost nothing.
optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
for batch in torch.randperm(len(images)).split(64):
    pixels, labels = images[batch]
    loss = cross_entropy(network(pixels), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

pixels, _ = images[:256]
layers = profile_module(network, pixels.split(64))  # of any module that has layers of hnn_kernels
for layer in layers:
    spikes = "" if layer.spikes is None else f"{layer.spikes:8.0f} spikes"
    print(f"{layer.name:>6}: {layer.macs:8.0f} MACs, {layer.accumulates:8.0f} additions {spikes}")

# The costs of an operation are yours to set, in picojoules.
costs = Costs(mac=4.6, accumulate=0.9)
hybrid, artificial = total(layers), all_artificial(network)
for name, cost in (("this network", hybrid), ("all layers artificial", artificial)):
    print(f"{name}: {cost.energy(costs) / 1000:.1f} nJ of arithmetic per image")
