"""Norse: ``LIFBoxCell``, one call per step in a loop that the user writes."""

import math

import torch
from torch import Tensor

from ..core.layer import Layer, Unsupported
from ..core.operations import Dynamics
from .helpers import TIE, Compiled, Peer, no_axon


class Norse(Peer):
    """``LIFBoxCell`` over ``current.unbind(0)``.

    Norse's own loop, ``Lift``, indexes the steps, so its backward is quadratic in T.

    Norse multiplies the input by ``1 - decay``, so its potential is ours times that factor. Threshold and surrogate are
    scaled to match, which costs nothing. Of its surrogates only ``heavi_erfc`` with ``alpha=2`` has an area of 1 in
    Norse's units. It is a Gaussian of width ``1 / (2 sqrt(2))`` there, and ``1 / (1 - decay)`` times as wide in ours.
    """

    name = package = "norse"

    def layer(self, wanted: Dynamics, features: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Layer:
        self.version()
        no_axon("Norse", wanted)
        if wanted.reset == "none":
            raise Unsupported("Norse has no spiking neuron without a reset")
        from norse.torch import LIFBoxCell
        from norse.torch.functional.lif_box import LIFBoxFeedForwardState, LIFBoxParameters
        from norse.torch.functional.reset import reset_subtract, reset_value

        gain, step = 1 - wanted.decay, 0.001
        zero = torch.zeros((), device=device)
        neurons = LIFBoxCell(
            LIFBoxParameters(
                tau_mem_inv=torch.tensor(gain / step, device=device), v_leak=zero, v_reset=zero,
                v_th=torch.tensor(gain * wanted.threshold, device=device), method="heavi_erfc", alpha=2.0,
                reset_method=reset_value if wanted.reset == "zero" else reset_subtract,
            ),
            dt=step,
        )  # fmt: skip

        def run(current: Tensor) -> Tensor:
            state = LIFBoxFeedForwardState(v=torch.zeros_like(current[0], dtype=torch.float32))
            train = []
            for x in current.unbind(0):
                spike, state = neurons(x, state)
                train.append(spike)
            return torch.stack(train)

        dynamics = wanted._replace(
            reset="zero" if wanted.reset == "zero" else "subtract", reset_decay=None, reset_grad="full",
            surrogate="gaussian", width=1 / (2 * math.sqrt(2) * gain),
        )  # fmt: skip
        return Layer(run, dynamics, note=f"{TIE}; its input gain of {gain:.4g} is undone by threshold and surrogate")


PROVIDERS = (Norse(), Compiled(Norse()))
