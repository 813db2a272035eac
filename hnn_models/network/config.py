"""The description of a hybrid network: its options, their defaults, and the checks of what goes together."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

from torch import Tensor, nn

import hnn_kernels
from hnn_kernels.nn import LIF

from ..plain import flag, numbers, one_of, plain, real, whole
from .codings import CODINGS, KINDS
from .notation import Shape, artificial_twin, parse, shapes
from .tokens import Token

INPUTS = ("direct", "axon")
PER = ("layer", "channel", "neuron")
READOUTS = ("count", "membrane")
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "identity": nn.Identity}
# SNN-IIR, the program that the paper's code is built on, has time constants of 4 and 1 steps.
AXONS = {
    "dual_exponential": hnn_kernels.IIR.dual_exponential(4, 1),
    "normalized": hnn_kernels.IIR.dual_exponential(4, 1, normalize=True),
    "exponential": hnn_kernels.IIR.exponential(4),
}
# The defaults of options that need not be names.
ACTIVATION = "relu"
AXON = "dual_exponential"

Filter = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass(frozen=True)
class NetworkConfig:
    """The arguments of a :class:`hnn_models.HybridNetwork`, which describes each of them, checked.

    Every default of a network is the default of a field here. Filters that are given by name become their
    coefficients, sequences become tuples, and numbers of every form become Python's (:mod:`hnn_models.plain`).

    Attributes:
        neuron: the further options of every :class:`hnn_kernels.nn.LIF`.

    Raises:
        TypeError, ValueError: an argument that is not allowed; :class:`hnn_models.NotationError` for an architecture
            that cannot be built, does not fit the images, or does not go with the coding.
    """

    architecture: str
    input_shape: Sequence[int]
    coding: str = "duplicate"
    steps: int = 25
    input: str = "direct"
    axon: str | Sequence[Sequence[float]] | None = AXON
    synapse: str | Sequence[Sequence[float]] | None = None
    learn: Sequence[str] = ()
    per: str = "neuron"
    activation: str | Sequence[str] = ACTIVATION
    fixed_artificial: bool = False
    gain: float = 1.0
    pool_axon: bool = False
    pretrained_activation: str | None = None
    readout: str = "count"
    neuron: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        gain = real(self.gain, 0, math.inf)
        if not gain:
            raise ValueError(f"gain must be a finite number above 0; got {self.gain!r}")
        self._set(
            input_shape=_image_shape(self.input_shape),
            steps=whole("steps", self.steps, 1),
            gain=gain,
            fixed_artificial=flag("fixed_artificial", self.fixed_artificial),
            pool_axon=flag("pool_axon", self.pool_axon),
            neuron=_neuron(self.neuron),
        )
        parse(self.architecture, input_shape=self.input_shape)
        for name, allowed in (("coding", CODINGS), ("input", INPUTS), ("per", PER), ("readout", READOUTS)):
            one_of(name, getattr(self, name), allowed)
        for name, reason in (("potential", "readout says it"), ("shape", "per says it")):
            if name in self.neuron:
                raise TypeError(f"{name} is not an option of a network: {reason}")
        self._set(**{name: _filter(name, getattr(self, name)) for name in ("axon", "synapse")})
        if self.input == "axon" and self.axon is None:
            raise ValueError("input='axon' needs an axon; got axon=None")
        if self.pool_axon and self.axon is None:
            raise ValueError("pool_axon needs an axon; got axon=None")
        if self.pretrained_activation is not None:
            one_of("pretrained_activation", self.pretrained_activation, ACTIVATIONS)
        # A purely artificial network has no neurons that use these options, but a wrong one is still wrong.
        self.neurons()
        self._set(learn=tuple(self.learn))
        _check_learning(self.fixed_artificial, self.tokens, self.coding)
        if not isinstance(self.activation, str):
            self._set(activation=tuple(self.activation))
        _activations(self.activation, self.tokens, self.coding)

    @cached_property
    def tokens(self) -> tuple[Token, ...]:
        """The parsed architecture."""
        return parse(self.architecture)

    @cached_property
    def shapes(self) -> list[Shape]:
        """The shape behind each token, without the batch."""
        return shapes(self.tokens, self.input_shape)

    @property
    def border(self) -> int:
        """The number of tokens in the artificial part."""
        return sum(not token.spiking for token in self.tokens)

    @property
    def hybrid(self) -> bool:
        """True if the network has layers of both kinds."""
        return 0 < self.border < len(self.tokens)

    def outputs(self, token: Token) -> int:
        """The number of values that a layer with weights gives for each of its neurons."""
        last = next((one for one in reversed(self.tokens[: self.border]) if one.weighted), None)
        return len(KINDS[self.coding].outputs) if self.hybrid and token is last else 1

    def weights(self) -> int:
        """The number of weights, without biases and learnt coefficients."""
        layers = zip(self.tokens, [tuple(self.input_shape), *self.shapes], strict=False)
        return sum(token.weights(before, self.outputs(token)) for token, before in layers if token.weighted)

    @cached_property
    def activations(self) -> tuple[str, ...]:
        """The activation of each artificial layer that has one, input side first."""
        return _activations(self.activation, self.tokens, self.coding)

    def filter(self, name: str) -> hnn_kernels.IIR | None:
        """The coefficients of ``"axon"`` or ``"synapse"``."""
        coefficients = getattr(self, name)
        return None if coefficients is None else hnn_kernels.IIR(*coefficients)

    def neurons(self, *, last: bool = False, **options: Any) -> LIF:
        """Make the neurons of a spiking layer.

        Args:
            last: for the last layer, which has the network's read-out and sends to no axon.
            options: further options of :class:`hnn_kernels.nn.LIF`, such as ``shape`` and ``backend``.
        """
        absent = {"axon"} if last else set()
        options |= {"readout": "count" if last else "spikes", **self.neuron}
        if last and self.readout == "membrane":  # nothing fires, so nothing is reset
            absent |= {"reset_decay", "reset_potential", "threshold"}
            options |= {"readout": "none", "potential": "train", "reset": "none"}
            options = {name: value for name, value in options.items() if name not in absent}
        return LIF(
            axon=None if last else self.filter("axon"),
            synapse=self.filter("synapse"),
            learn=[name for name in self.learn if name not in absent] if absent else self.learn,
            **options,
        )

    def arguments(self) -> dict[str, Any]:
        """The arguments of :class:`hnn_models.HybridNetwork`, as plain types and tensors."""
        own = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "neuron"}
        return {**own, **self.neuron}

    def pretraining(self) -> "NetworkConfig":
        """The purely artificial network of the same layers, from which the layers up to the border can be taken."""
        behind = sum(token.spiking and token.weighted for token in self.tokens)
        before = [self.pretrained_activation or name for name in self.activations]
        activation = (*before, *[ACTIVATION] * (behind - 1))
        return NetworkConfig(artificial_twin(self.tokens), self.input_shape, activation=activation)

    def unnormed(self) -> "NetworkConfig":
        """The same network without batch norm."""
        return replace(self, architecture="-".join(token.unnormed for token in self.tokens))

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


def _image_shape(value: Sequence[int]) -> Shape:
    given = plain(value)
    if isinstance(given, Sequence) and not isinstance(given, str) and given:
        with suppress(ValueError):
            return tuple(whole("input_shape", size, 1) for size in given)
    raise ValueError(f"input_shape must be the shape of one image, such as (1, 28, 28); got {value!r}")


def _neuron(given: Mapping[str, Any]) -> dict[str, Any]:
    options = {name: numbers(value) for name, value in given.items()}
    if options.get("checkpoint_every") is not None:
        options["checkpoint_every"] = whole("checkpoint_every", options["checkpoint_every"], 1)
    return options


def _filter(name: str, given: Any) -> Filter | None:
    """The coefficients of a filter that is given by its name or by its coefficients, as plain floats."""
    if given is None:
        return None
    if isinstance(given, str):
        one_of(name, given, AXONS)
        return _filter(name, AXONS[given])
    if not isinstance(given, Sequence) or len(given) != 2 or any(isinstance(part, Tensor) for part in given):
        raise TypeError(f"{name} must be a name, an IIR of floats or None; got {given!r}")
    module = hnn_kernels.nn.IIR(*numbers(given))  # checks the coefficients, and copies them
    if isinstance(module.feedback, Tensor) or isinstance(module.feedforward, Tensor):
        raise TypeError(f"{name} must be an IIR of floats, from which learn= makes tensors; got {given!r}")
    return module.feedback, module.feedforward


def _activations(given: str | Sequence[str], tokens: Sequence[Token], coding: str) -> tuple[str, ...]:
    weighted = [token for token in tokens if token.weighted]
    artificial = [token for token in weighted if not token.spiking]
    hybrid = 0 < len(artificial) < len(weighted)
    needed = KINDS[coding].activation if hybrid else None
    count = len(artificial) if hybrid else max(len(artificial) - 1, 0)
    if isinstance(given, str):
        names = [given] * count
        if needed is not None:
            names[-1] = needed
        one_of("activation", given, ACTIVATIONS)
    else:
        names = list(given)
        for name in names:
            one_of("activation", name, ACTIVATIONS)
        if len(names) != count:
            raise ValueError(f"activation must have {count} names for {tokens[0].architecture!r}; got {len(names)}")
        if needed is not None and names[-1] != needed:
            raise artificial[-1].error(
                f"{coding.title()} coding needs activation {needed!r} at the border; got {names[-1]!r}"
            )
    return tuple(names)


def _check_learning(fixed: bool, tokens: Sequence[Token], coding: str) -> None:
    """Check that the artificial layers can be fixed (``fixed``) or trained with this coding.

    Raises:
        TypeError, ValueError: they cannot. A NotationError marks the layer at which the coding does not fit.
    """
    artificial = [token for token in tokens if not token.spiking and token.weighted]
    spiking = [token for token in tokens if token.spiking]
    kind, name = KINDS[coding], coding.title()
    if fixed and not artificial:
        raise tokens[0].error("fixed_artificial needs an artificial layer; every layer here is spiking")
    if fixed and not spiking:
        raise tokens[-1].error("fixed_artificial leaves nothing to train; no layer here is spiking")
    if len(kind.outputs) > 1 and spiking and not artificial:
        raise spiking[0].error(
            f"{name} coding needs an artificial layer before this one, which puts out {' and '.join(kind.outputs)} "
            "(the paper codes its purely spiking baseline by duplicating)"
        )
    if len(kind.outputs) > 1 and fixed:
        raise artificial[-1].error(
            f"{name} coding needs trainable artificial layers: this one has {kind.times} the neurons of a "
            "pretrained one"
        )
    if not kind.differentiable and artificial and spiking and not fixed:
        raise artificial[-1].error(
            f"{name} coding has no gradient: the artificial layers up to this one must be fixed (fixed_artificial=True)"
        )
