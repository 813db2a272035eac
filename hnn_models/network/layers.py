"""The spiking layer, and the signal that goes from one spiking layer to the next, all time steps at once."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

import hnn_kernels
from hnn_kernels import LIFState
from hnn_kernels.nn import IIR, LIF

from .weights import affine, bare, spike_product

_LEAST_LEAK = 1e-3


class Signal(NamedTuple):
    """The input of a spiking layer over T time steps: spikes, spikes behind an axon, or coded values.

    Attributes:
        value: ``[T, B, *features]``; or ``[B, *features]`` for a signal that is constant in time.
        steps: T for a signal that is constant in time, else None.
        response: ``[T]`` for a signal that is ``value * response[t]``, such as a constant value behind an axon;
            else None.
        spikes: True if ``value`` holds 0 and 1 only.
        axon: a filter that the signal still has to go through: the signal is the filtered ``value``. None without one.
        answers: the filter whose answer to a train of ones ``response`` is; None where that is not known.
    """

    value: Tensor
    steps: int | None = None
    response: Tensor | None = None
    spikes: bool = False
    axon: IIR | None = None
    answers: IIR | None = None

    def train(self) -> Tensor:
        """The value at each step ``[T, B, *features]``, of a signal without ``steps``."""
        if self.response is None:
            return self.value
        return self.response.view(-1, *(1,) * self.value.dim()) * self.value


class SameDropout(nn.Module):
    """Dropout of the same values at all time steps, in training: what is dropped is a neuron, not a spike.

    Args:
        p: the fraction that is dropped; the others are divided by 1 - p.

    Shape:
        ``[T, B, *features]`` to the same.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, train: Tensor) -> Tensor:
        if not self.training:
            return train
        return train * nn.functional.dropout(train.new_ones(train.shape[1:]), self.p)

    def extra_repr(self) -> str:
        return f"{self.p:g}"


class SpikingLayer(nn.Module):
    """Weights and spiking neurons (eq. 1): ``I[t] = W F[t] + b`` for all steps in one call, then the neurons.

    F is the signal from the layer before. That layer's kernel has already applied its axon; in the same way this
    layer's neurons apply their axon for the layer behind.

    The weights are called as a module, once for each call of the layer. Hooks, pruning, parametrisations and any other
    module in their place (a low-rank adapter, a quantised layer) thus have their effect. Such a module is called with

    - ``[B, *in]`` where the signal repeats one value (duplicate coding with direct input);
    - ``[B, *in]`` where the signal is ``x * response[t]`` and the module is known to be ``W x + b``
      (:func:`hnn_models.network.weights.affine`): then ``I[t] = response[t] (W x + b) + (1 - response[t]) b``, which
      equals the current of the whole signal up to rounding. On a CPU the neurons make this train themselves, where they
      can, from one value: the filter with the response becomes their synapse (:meth:`filters_constant`);
    - ``[T * B, *in]`` otherwise.

    Args:
        weights: ``nn.Linear``, ``nn.Conv2d``, or a module with the same input and output.
        neurons: the neurons.
        before: modules that F goes through first, each step by itself, such as pooling and flattening.
        axon: a filter over time that F, which must be a train, goes through behind these; None without one.
        norm: batch norm of the current, with one mean and one variance over images, places and all time steps; None
            without one.
        dropout: dropout of the layer's output; None without one.

    Shape:
        :class:`Signal` of ``[T, B, *in]``, or of ``[B, *in]`` if it is constant in time, to ``[T, B, *out]``;
        ``[B, *out]`` if the neurons' read-out is a count.
    """

    def __init__(
        self,
        weights: nn.Module,
        neurons: LIF,
        before: Sequence[nn.Module] = (),
        axon: IIR | None = None,
        norm: nn.Module | None = None,
        dropout: SameDropout | None = None,
    ) -> None:
        super().__init__()
        self.before = nn.Sequential(*before)
        self.axon = axon
        self.weights = weights
        self.norm = norm
        self.neurons = neurons
        self.dropout = dropout

    def forward(self, signal: Signal, *, unfiltered: bool = False) -> Tensor:
        """The neurons' read-out; with ``unfiltered`` their spikes, for a layer behind that applies the axon."""
        options: dict[str, Any] = {}
        synapse, steps = signal.axon, signal.steps
        if synapse is not None:
            current = self._before_filter(signal)
        elif self.filters_constant(signal):
            current, options["state"] = self._constant_before_filter(signal, None if unfiltered else self.neurons.axon)
            synapse, steps = signal.answers, cast("Tensor", signal.response).shape[0]
        else:
            current = self.current(signal)
        if synapse is not None or unfiltered:
            synapse = self.neurons.synapse if synapse is None else synapse
            options["filters"] = (synapse, None if unfiltered else self.neurons.axon)
        out = self.neurons(current, steps=steps, **options)
        return out if self.dropout is None else self.dropout(out)

    def current(self, signal: Signal) -> Tensor:
        """The current I: ``[B, *out]`` if the signal has ``steps``, else ``[T, B, *out]``."""
        x, response = signal.value, signal.response
        if not self.once(signal):
            train = signal.train()
            x, lead = self.at_weights(train), train.shape[:2]
            spikes = signal.spikes and self.axon is None
            takes = spikes and x.device.type == "cpu" and spike_product(self.weights, self.before)
            value = self._product(x, cast("Any", self.weights).bias) if takes else self.weights(x)
            return self._normed(value).unflatten(0, lead)
        value = self.weights(self.before(x))
        if response is None:
            return self._normed(value)
        ones = (1,) * (value.dim() - 2)
        response = response.view(-1, 1, 1, *ones)
        bias: Any = self.weights.bias  # read behind the call, in which a hook may have set it
        if bias is not None:
            value = torch.addcmul((1 - response) * bias.view(-1, *ones), response, value)
        else:
            value = response * value
        return value if self.norm is None else self._normed(value.flatten(0, 1)).unflatten(0, value.shape[:2])

    def _normed(self, current: Tensor) -> Tensor:
        """The current behind batch norm: ``[T * B, *out]``, or ``[B, *out]`` where it is constant in time."""
        return current if self.norm is None else self.norm(current)

    def at_weights(self, train: Tensor) -> Tensor:
        """Return the weights' input for a train ``[T, B, *in]``: ``[T * B, *in]`` behind pools and the layer's axon."""
        x = self.before(train.flatten(0, 1))
        return x if self.axon is None else self.axon(x.unflatten(0, train.shape[:2])).flatten(0, 1)

    def _product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """The product of the weights and spikes ``[T * B, *in]``."""
        weights: Any = self.weights
        # Without a GPU, a kernel that is asked for by name is there for proving it.
        backend = "reference" if getattr(self.neurons, "backend", None) == "reference" else None
        if isinstance(weights, nn.Linear):
            return hnn_kernels.spike_linear(x, weights.weight, bias, backend=backend)
        window = weights.stride, weights.padding, weights.dilation, weights.groups
        return hnn_kernels.spike_conv2d(x, weights.weight, bias, *window, backend=backend)

    def _before_filter(self, signal: Signal) -> Tensor:
        """The current whose filtered values are the current I: the filter and the weights change places.

        The bias does not go through the filter. Before it stands the train whose filtered values are the bias.
        """
        x, bias = signal.value, cast("Any", self.weights).bias
        if bias is not None:
            bias = unfiltered_ones(signal.axon, x.shape[0], x).to(bias.dtype)[:, None] * bias
        return self._product(self.before(x.flatten(0, 1)), bias).unflatten(0, x.shape[:2])

    def filters_constant(self, signal: Signal) -> bool:
        """True if the neurons can filter a signal ``x * response[t]`` behind the weights, as their synapse.

        No train of currents then exists, neither in the forward pass nor in backward. The filter must be known, have
        fixed coefficients for all neurons, and come to rest at a constant input.
        """
        return (
            signal.answers is not None
            and signal.value.device.type == "cpu"
            and self.norm is None
            and bare(self.neurons, (LIF,))
            and self.neurons.synapse is None
            and bare(signal.answers, (IIR,))
            and gain(signal.answers) is not None
            and self.once(signal)
        )

    def _constant_before_filter(self, signal: Signal, behind: IIR | None) -> tuple[Tensor, LIFState | None]:
        """The constant current ``[B, *out]`` whose filtered values are the current I, and the neurons' first state.

        The bias does not go through the filter: it is the value at which the filter rests. With bias / gain for input,
        and the bias for each earlier output, the filter gives the bias at each step. ``behind`` is the axon of the same
        call, which begins with zeros.
        """
        axon, response = cast("IIR", signal.answers), cast("Tensor", signal.response)
        value = self.weights(self.before(signal.value))
        value = value.to(torch.promote_types(value.dtype, response.dtype))  # autocast rounds weights alone
        bias: Any = self.weights.bias  # read behind the call, in which a hook may have set it
        if bias is None:
            return value, None
        of_state = torch.promote_types(value.dtype, torch.float32)
        bias = bias.view(-1, *(1,) * (value.dim() - 2)).to(of_state)
        current = value + ((1 / cast("float", gain(axon)) - 1) * bias).to(value.dtype)
        zero = bias.new_zeros(())
        zeros = zero.expand(value.shape)
        depth = 0 if behind is None else len(behind.feedback) + len(behind.feedforward) - 1
        return current, LIFState(
            zeros,
            zeros,
            bias.expand(len(axon.feedback), *value.shape),
            zero.expand(depth, *value.shape) if depth else None,
        )

    def leaves_axon_to(self, behind: "SpikingLayer") -> bool:
        """True if the layer ``behind`` can apply this layer's axon behind its weights, and gains by it.

        The axon must be one filter of fixed coefficients that answers at once, without a delayed input, and nothing but
        spikes may come out of the neurons or stand between the layers. The weights then meet spikes instead of filtered
        trains.
        """
        axon = getattr(self.neurons, "axon", None)
        return (
            axon is not None
            and self.sends_spikes(axon)
            and bare(axon, (IIR,))
            and answers_at_once(axon)
            and bare(behind, (SpikingLayer,))
            and bare(behind.neurons, (LIF,))
            and behind.neurons.synapse is None
            and behind.axon is None
            and behind.norm is None
            and spike_product(behind.weights, behind.before, linear=True)
        )

    def sends_spikes(self, axon: IIR | None = None) -> bool:
        """True if the layer's output is spikes, or would be without ``axon``, the neurons' own."""
        neurons = self.neurons
        return (
            bare(self, (SpikingLayer,))
            and not (self.dropout is not None and self.dropout.training)
            and bare(neurons, (LIF,))
            and neurons.axon is axon
            and not neurons.smooth
            and neurons.readout == "spikes"
        )

    def once(self, signal: Signal) -> bool:
        """True if the weights are applied to one value of ``signal`` for all steps."""
        if self.axon is not None and (signal.steps is not None or signal.response is not None):
            raise ValueError("a layer with an axon before its weights takes a train; got a signal that is constant")
        return signal.steps is not None or (signal.response is not None and affine(self.weights, self.before))


def unfiltered_ones(axon: Any, steps: int, like: Tensor) -> Tensor:
    """The train of numbers ``[steps]`` that ``axon``, a filter of one feedforward coefficient, turns into ones."""
    (now,) = axon.feedforward
    ones = like.detach().new_ones(()).expand(steps, 1)
    return hnn_kernels.iir(ones, [], [1 / now, *(-coefficient / now for coefficient in axon.feedback)])[0].squeeze(1)


def answers_at_once(axon: IIR) -> bool:
    """True if a filter has fixed coefficients, and one for its input, that of the same step."""
    fixed = not isinstance(axon.feedback, Tensor) and not isinstance(axon.feedforward, Tensor)
    return bool(fixed and len(axon.feedforward) == 1 and axon.feedforward[0] != 0)


def gain(axon: IIR) -> float | None:
    """The output of a filter at rest, for an input of one: ``b[0] / (1 - sum(a))``.

    None if it never rests, or does not answer at once.
    """
    if not answers_at_once(axon):
        return None
    feedback, (now,) = cast("Sequence[float]", axon.feedback), cast("Sequence[float]", axon.feedforward)
    # What the filter keeps of its output. Close to 0 the rounding of a step would add up.
    leak = 1 - math.fsum(feedback)
    return now / leak if leak > _LEAST_LEAK else None


def shared(axon: IIR) -> bool:
    """True if all neurons of a layer have the same axon, so that the filter and the weights can change places."""
    return all(not isinstance(c, Tensor) or c.dim() == 1 for c in (axon.feedback, axon.feedforward))
