"""The hybrid network: artificial layers, one coding, spiking layers."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

import hnn_kernels
from hnn_kernels.nn import IIR, LIF

from . import build
from . import table as describe
from .layers import CODINGS, INPUTS, Coding, Train
from .notation import Layer, Shape, parse, shapes


class HybridNetwork(nn.Module):
    """Artificial layers, then spiking ones (Muramatsu & Yu 2021), from the paper's notation.

    ``A784-A500-S10`` on 28 x 28 pixels is 784 -> 784 (ReLU) -> 500 (ReLU) -> 10 (spiking). The coding sits between the
    last artificial and the first spiking layer, or at the input of a purely spiking network; a pool that stands there
    works on the analogue value, before the coding. A spiking layer is eq. 1 complete: its train goes through its axon,
    in the same kernel, then through pools, then through the next layer's weights. The result is the spike count of the
    last layer, the logits of eq. 2; a purely artificial network ends in plain logits, without activation.

    Args:
        architecture: see :func:`hnn_models.parse`.
        input_shape: shape of one image, such as ``(1, 28, 28)``.
        coding: ``"duplicate"``, the value itself at every step: constant in time, so the first spiking layer's weights
            are applied once. ``"gaussian"``, the value plus noise: the last artificial layer puts out mean and ln sigma
            (twice the neurons, mean first), with its activation on both, as the ancestor has it: with ReLU, sigma is at
            least 1. ``"poisson"``, spikes with the value as probability: the last artificial layer ends in a sigmoid,
            and the artificial layers must be fixed; a purely spiking network codes its pixels. A purely artificial
            network has no coding.
        steps: T, number of time steps, at least 1.
        input: ``"direct"``, the coded value is the first spiking layer's F; ``"axon"``, it goes through an axon first
            (section 4.2).
        axon: filter of the spike trains of all layers but the last (and of the coded value, for axon input):
            ``"dual_exponential"``, the ancestor's with time constants of 4 and 1 steps; ``"normalized"``, the same with
            a peak of 1, one step later; ``"exponential"``, of 4 steps; an :class:`hnn_kernels.IIR` of floats; or None.
        synapse: filter of the current in the same forms; none by default, as in the paper.
        learn: coefficients to train, names as for :class:`hnn_kernels.nn.LIF`; none by default, as the paper has
            gradients of weights alone (the ancestor trained its axons too: ``("axon",)``).
        per: how many of them there are: one per ``"layer"``, per ``"channel"`` of a convolution (per neuron of a dense
            layer), or per ``"neuron"``, as in eq. 1 and in the ancestor.
        activation: of the artificial layers: ``"relu"``, ``"sigmoid"`` or ``"identity"`` for all (Poisson coding's
            border has its sigmoid anyway), or a sequence of these names, one for each but a last artificial layer.
        fixed_artificial: the artificial layers are not trained (separate learning): see :meth:`load_artificial`,
            :meth:`encode_features`.
        gain: factor on the initial weights of the spiking layers, above 0. PyTorch's own, 1, are the ancestor's; with
            them only the first layer of the paper's purely spiking CNN fires at first, if any, with 6 every one.
        backend: of all kernels, as for :func:`hnn_kernels.lif`.
        neuron: further options of every :class:`hnn_kernels.nn.LIF`: ``decay``, ``reset_decay``, ``threshold``,
            ``sigma``, ``reset``, ``reset_grad`` ... with its defaults, which are the ancestor's.

    Attributes:
        layers: the parsed architecture, and
        shapes: the shape behind each of them, without the batch.
        features_shape: shape of one image's features, what the coding takes.
        activations: names, one per artificial layer that has one.
        classes: the size of the last layer.
        config: the arguments that rebuild this network, plain types and tensors, without ``backend``: where a network
            was trained does not bind where it is used.

    Raises:
        TypeError, ValueError: an argument that is not allowed; :class:`hnn_models.NotationError` for an architecture
            that cannot be, does not fit the images, or does not go with the coding.
    """

    def __init__(
        self,
        architecture: str,
        input_shape: Sequence[int],
        coding: str = "duplicate",
        steps: int = 25,
        *,
        input: str = "direct",
        axon: str | Sequence[Sequence[float]] | None = "dual_exponential",
        synapse: str | Sequence[Sequence[float]] | None = None,
        learn: Sequence[str] = (),
        per: str = "neuron",
        activation: str | Sequence[str] = "relu",
        fixed_artificial: bool = False,
        gain: float = 1.0,
        backend: str | None = None,
        **neuron: Any,
    ) -> None:
        super().__init__()
        input_shape = build.image_shape(input_shape)
        layers = parse(architecture, input_shape=input_shape)
        for name, value, allowed in (("coding", coding, CODINGS), ("input", input, INPUTS), ("per", per, build.PER)):
            build.one_of(name, value, allowed)
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
            raise ValueError(f"steps must be an int of at least 1, the number of time steps; got {steps!r}")
        if type(gain) not in (int, float) or not 0 < gain < math.inf:
            raise ValueError(f"gain must be a finite number above 0; got {gain!r}")
        for name, reason in (("readout", "the last layer gives its count"), ("shape", "per says it")):
            if name in neuron:
                raise TypeError(f"{name} is not an option of a network: {reason}")
        filters = {"axon": build.filter_of("axon", axon), "synapse": build.filter_of("synapse", synapse)}
        if input == "axon" and filters["axon"] is None:
            raise ValueError("input='axon' needs an axon; got axon=None")
        # A purely artificial network has no other use for the options, but a wrong one is still wrong.
        iirs = {name: value and hnn_kernels.IIR(*value) for name, value in filters.items()}
        LIF(**iirs, learn=learn, backend=backend, **neuron)
        learn = tuple(learn)
        build.check_learning(fixed_artificial, layers, coding)

        self.architecture = architecture
        self.input_shape = input_shape
        self.layers = layers
        self.shapes = shapes(layers, input_shape)
        self.coding = coding
        self.steps = steps
        self.input = input
        self.activations = build.activation_names(activation, layers, coding)
        self.fixed_artificial = fixed_artificial
        self.classes = layers[-1].size
        self.config = {
            "architecture": architecture,
            "input_shape": input_shape,
            "coding": coding,
            "steps": steps,
            "input": input,
            **filters,
            "learn": learn,
            "per": per,
            "activation": activation if isinstance(activation, str) else tuple(activation),
            "fixed_artificial": fixed_artificial,
            "gain": gain,
            **neuron,
        }

        border = sum(not layer.spiking for layer in layers)  # layers[border:] is the spiking part
        before = [input_shape, *self.shapes]
        double = 0 < border < len(layers) and coding == "gaussian"
        coded = before[border]
        modules = build.artificial_part(layers[:border], before[: border + 1], self.activations, double)
        if border < len(layers) and layers[border].kind == "dense" and len(coded) > 1:
            modules.append(nn.Flatten())
            coded = (math.prod(coded),)
        self.artificial = nn.Sequential(*modules)
        self.features_shape = (2 * coded[0], *coded[1:]) if double else coded
        self.code: Coding | None = None
        spiking: list[nn.Module] = []
        if border < len(layers):
            through = None
            if input == "axon":
                shape = build.coefficient_shape(per, coded)
                through = IIR(*filters["axon"], learn="axon" in learn, shape=shape, backend=backend)
            self.code = Coding(coding, steps, through, backend)
            options = {**neuron, "backend": backend}
            behind = [coded, *self.shapes[border:]]
            spiking = build.spiking_part(layers[border:], behind, filters, learn, per, gain, options)
        self.spiking = nn.ModuleList(spiking)
        if fixed_artificial:
            self.artificial.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """The logits ``[B, classes]`` of ``images`` ``[B, *input_shape]``: spike counts, of the images' dtype.

        It is ``forward_features(encode_features(images))``. Noise of the coding is seeded from torch's generator.

        Raises:
            TypeError, ValueError: ``images`` is not a floating tensor of that shape.
        """
        return self.forward_features(self.encode_features(images))

    def encode_features(self, images: Tensor) -> Tensor:
        """What is coded: ``images`` ``[B, *input_shape]`` through the artificial part, ``[B, *features_shape]``.

        Activation and pools up to the border are included, the coding is not, so it is deterministic: with a fixed part
        (:attr:`has_fixed_part`) it needs to be computed once. For Gaussian coding it is mean and ln sigma, for a purely
        artificial network the logits, for a purely spiking one the pixels.

        Raises:
            TypeError, ValueError: ``images`` is not a floating tensor of that shape.
        """
        _check("images", images, self.input_shape)
        return self.artificial(images)

    def forward_features(self, features: Tensor) -> Tensor:
        """The logits ``[B, classes]`` of what :meth:`encode_features` gave: coding, then the spiking part.

        Raises:
            TypeError, ValueError: ``features`` is not a floating tensor ``[B, *features_shape]``.
        """
        _check("features", features, self.features_shape)
        if self.code is None:
            return features
        train = self.code(features)
        for layer in self.spiking:
            train = Train(layer(train))
        return train.value

    @property
    def has_fixed_part(self) -> bool:
        """Whether the artificial layers are fixed, so that :meth:`encode_features` does not change in training."""
        return self.fixed_artificial

    @property
    def pretraining_config(self) -> dict[str, Any]:
        """The arguments of a purely artificial network of the same layers, which :meth:`load_artificial` accepts."""
        behind = sum(layer.spiking and layer.kind != "pool" for layer in self.layers)
        return {
            "architecture": self.architecture.replace("S", "A"),
            "input_shape": self.input_shape,
            "activation": (*self.activations, *["relu"] * (behind - 1)),
        }

    def load_artificial(self, source: "HybridNetwork") -> None:
        """Copy the layers up to the border from a trained network: the first half of separate learning (section 3.1).

        Args:
            source: a purely artificial network that begins with the same layers and activations, as that of
                :attr:`pretraining_config` does. It is left as it is, and no memory is shared.

        Raises:
            TypeError: ``source`` is not a network.
            ValueError: it is another one, or this network has no such part to load.
        """
        if not isinstance(source, HybridNetwork):
            raise TypeError(f"source must be a HybridNetwork; got {type(source).__name__}")
        own = [layer for layer in self.layers if not layer.spiking]
        if not any(layer.kind != "pool" for layer in own) or not self.spiking:
            raise ValueError(f"{self.architecture} has no border to load artificial layers up to")
        if self.coding == "gaussian":
            raise ValueError("Gaussian coding's last artificial layer has twice the neurons of a pretrained one")
        if source.spiking:
            raise ValueError(f"source must be purely artificial; got {source.architecture}")
        theirs = source.layers[: len(own)]
        for what, mine, other in (
            ("input_shape", self.input_shape, source.input_shape),
            ("layers up to the border", _tokens(own), _tokens(theirs)),
            ("activation", self.activations, source.activations[: len(self.activations)]),
        ):
            if mine != other:
                raise ValueError(
                    f"source must have the {what} {mine} of {self.architecture}; {source.architecture} has {other}"
                )
        names = self.artificial.state_dict()
        self.artificial.load_state_dict({name: source.artificial.state_dict()[name] for name in names})

    def modules_by_layer(self) -> Iterator[tuple[Layer, Shape, nn.Module | None]]:
        """Every layer with the shape of its output and its module: Linear, Conv2d, SpikingLayer, None for a pool."""
        weights = (module for module in self.artificial if isinstance(module, nn.Linear | nn.Conv2d))
        modules = iter([*weights, *self.spiking])
        for layer, shape in zip(self.layers, self.shapes, strict=True):
            yield layer, shape, None if layer.kind == "pool" else next(modules)

    def extra_repr(self) -> str:
        """The arguments, for ``repr(network)``."""
        return (
            f"{self.architecture!r}, input_shape={self.input_shape}, coding={self.coding!r}, steps={self.steps}, "
            f"input={self.input!r}"
        )

    def __str__(self) -> str:
        """The table of :mod:`hnn_models.network.table`."""
        return describe.text(self)


def _check(name: str, value: Tensor, shape: Shape) -> None:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{name} must be a floating tensor; got {kind}")
    if value.shape[1:] != shape:
        raise ValueError(f"{name} must be [B, {', '.join(map(str, shape))}]; got {tuple(value.shape)}")


def _tokens(layers: Sequence[Layer]) -> str:
    return "-".join(layer.token for layer in layers)
