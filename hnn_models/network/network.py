"""The hybrid network: artificial layers, one coding, spiking layers."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from torch import Tensor, nn

from ..memory import require_bytes
from . import build, table, transfer
from .chain import chain
from .codings import KINDS, Coding
from .config import NetworkConfig
from .layers import Signal, SpikingLayer
from .state import plain_state, take_former_names, with_names_of
from .tokens import Shape, Token

_LARGE = 2**30  # bytes; for a smaller tensor the system is not asked


if TYPE_CHECKING:

    class _SpikingLayers(nn.ModuleList):
        def __iter__(self) -> Iterator[SpikingLayer]: ...

        def __getitem__(self, index: Any) -> Any: ...


class HybridNetwork(nn.Module):
    """A network of artificial layers and then spiking ones (Muramatsu & Yu 2021), from the paper's notation.

    ``A784-A500-S10`` on 28 x 28 pixels is 784 -> 784 (ReLU) -> 500 (ReLU) -> 10 (spiking). The coding sits between the
    last artificial and the first spiking layer, or at the input of a purely spiking network. A pool that stands there
    comes before the coding and takes the analogue value. A spiking layer is all of eq. 1: its spike train goes through
    its axon, in the same kernel, then through pools, then through the next layer's weights. The output is the spike
    count of the last layer, the logits of eq. 2. A purely artificial network ends in plain logits, without an
    activation.

    SNN-IIR is the program of Fang et al. (2020) that the paper's code is built on. What the paper leaves open has the
    value of SNN-IIR by default.

    Args:
        architecture: the layers; see :func:`hnn_models.parse`.
        input_shape: shape of one image, such as ``(1, 28, 28)``.
        coding: ``"duplicate"`` takes the value itself at every step. It is constant in time, so the weights of the
            first spiking layer are applied once. ``"gaussian"`` takes the value plus noise. The last artificial layer
            then gives mean and ln sigma, with twice the neurons, all means first, and its activation is applied to
            both, as in SNN-IIR: with ReLU, sigma is at least 1. ``"poisson"`` takes spikes, with the value as their
            probability. The last artificial layer then ends in a sigmoid, and the artificial layers must be fixed. A
            purely spiking network codes its pixels; a purely artificial network has no coding. The program of the
            paper's authors has two others: ``"gaussian-variance"`` is Gaussian coding of mean and ln sigma², and
            ``"poisson-divided-twice"`` is its mistake of taking a 255th of the value for the probability.
        steps: T, the number of time steps, at least 1.
        input: ``"direct"``: the coded value is the input F of the first spiking layer. ``"axon"``: it goes through an
            axon first (section 4.2).
        axon: the filter of the spike trains of all layers but the last, and of the coded value for axon input.
            ``"dual_exponential"`` has SNN-IIR's time constants of 4 and 1 steps. ``"normalized"`` is the same filter
            with a peak of 1, one step later. ``"exponential"`` has a time constant of 4 steps. Otherwise an
            :class:`hnn_kernels.IIR` of floats, or None.
        synapse: the filter of the current, in the same forms; None by default, as in the paper.
        learn: names of the coefficients to train, as for :class:`hnn_kernels.nn.LIF`. None by default, as in the paper,
            which has gradients of weights alone. (SNN-IIR trains its axons too: ``("axon",)``.)
        per: the number of learnt coefficients: one per ``"layer"``; per ``"channel"`` of a convolution (per neuron of a
            dense layer); or per ``"neuron"``, as in eq. 1 and in SNN-IIR.
        activation: of the artificial layers: ``"relu"``, ``"sigmoid"`` or ``"identity"`` for all, where Poisson coding
            replaces the one at the border by its sigmoid; or a sequence of these names, one for each artificial layer
            but an artificial output layer.
        fixed_artificial: do not train the artificial layers (separate learning); see :meth:`load_artificial` and
            :meth:`encode_features`.
        gain: factor on the initial weights of the spiking layers, above 0. With 1, PyTorch's own weights as in SNN-IIR,
            at most the first layer of the paper's purely spiking CNN fires at first (with axon input the others wake);
            with 6, every layer fires.
        pool_axon: filter a train by an axon a second time, behind a pool between two spiking layers, as the program of
            the paper's authors does.
        pretrained_activation: of all artificial layers of the network that fixed layers come from
            (:meth:`load_artificial`), where it has another one; None for the same as here.
        readout: ``"count"``: the logits are the spike counts of the last layer. ``"membrane"``: they are the mean
            membrane potential over time of a last layer that neither fires nor resets, in float32 at least.
        backend: of all kernels, as for :func:`hnn_kernels.lif`.
        neuron: further options of every :class:`hnn_kernels.nn.LIF`, such as ``decay``, ``reset_decay``, ``threshold``,
            ``sigma``, ``reset`` and ``reset_grad``. Their defaults are those of SNN-IIR.

    Attributes:
        settings: the arguments, checked, as a :class:`hnn_models.NetworkConfig`.
        architecture: as given. So are ``input_shape``, ``coding``, ``steps``, ``input``, ``readout`` and
            ``fixed_artificial``.
        layers: the tokens of the architecture (:func:`hnn_models.parse`).
        shapes: the shape behind each token, without the batch.
        features_shape: the shape of one image's features, the input of the coding.
        activations: the activation of each artificial layer that has one.
        classes: the size of the last layer.
        artificial: the artificial part, an ``nn.Sequential``.
        coder: the module of the coding; None for a purely artificial network. ``code`` is another name of it.
        spiking: the spiking layers, an ``nn.ModuleList`` of :class:`hnn_models.SpikingLayer`.

    Raises:
        TypeError, ValueError: an argument that is not allowed; :class:`hnn_models.NotationError` for an architecture
            that cannot be built, does not fit the images, or does not go with the coding.
        MemoryError: its weights do not fit into memory.
    """

    def __init__(
        self,
        architecture: str,
        input_shape: Sequence[int],
        coding: str = NetworkConfig.coding,
        steps: int = NetworkConfig.steps,
        *,
        input: str = NetworkConfig.input,
        axon: str | Sequence[Sequence[float]] | None = NetworkConfig.axon,
        synapse: str | Sequence[Sequence[float]] | None = NetworkConfig.synapse,
        learn: Sequence[str] = NetworkConfig.learn,
        per: str = NetworkConfig.per,
        activation: str | Sequence[str] = NetworkConfig.activation,
        fixed_artificial: bool = NetworkConfig.fixed_artificial,
        gain: float = NetworkConfig.gain,
        pool_axon: bool = NetworkConfig.pool_axon,
        pretrained_activation: str | None = NetworkConfig.pretrained_activation,
        readout: str = NetworkConfig.readout,
        backend: str | None = None,
        **neuron: Any,
    ) -> None:
        super().__init__()
        settings = NetworkConfig(
            architecture, input_shape, coding, steps, input, axon, synapse, learn, per, activation, fixed_artificial,
            gain, pool_axon, pretrained_activation, readout, neuron,
        )  # fmt: skip
        self.settings = settings
        self.architecture = settings.architecture
        self.input_shape: Shape = tuple(settings.input_shape)
        self.layers = settings.tokens
        self.shapes = settings.shapes
        self.coding = settings.coding
        self.steps = settings.steps
        self.input = settings.input
        self.readout = settings.readout
        self.activations = settings.activations
        self.fixed_artificial = settings.fixed_artificial
        self.classes = self.layers[-1].size

        like = torch.empty(0)
        if type(like) is Tensor and not like.is_meta:  # else nothing is allocated
            require_bytes(settings.architecture, settings.weights() * like.itemsize, like.device)
        modules, of_artificial = build.artificial_part(settings)
        self.artificial = nn.Sequential(*modules)
        coded = build.features_shape(settings)
        outputs = len(KINDS[settings.coding].outputs) if settings.hybrid else 1
        self.features_shape = (outputs * coded[0], *coded[1:])
        self.coder: Coding | None = None
        if settings.border < len(self.layers):
            through = build.axon_of(settings, coded, backend) if settings.input == "axon" else None
            self.coder = Coding(settings.coding, settings.steps, through, backend)
        spiking, of_spiking = build.spiking_part(settings, backend)
        self.spiking = cast("_SpikingLayers", nn.ModuleList(spiking))
        # By name, so that a module in the place of another is found.
        names = {module: name for name, module in self.named_modules()}
        self._names_of_tokens = tuple(names[module] for module in (*of_artificial, *of_spiking))
        if settings.fixed_artificial:
            self.artificial.requires_grad_(False).eval()
        sent = [math.prod(shape) for token, shape, _ in self.modules_by_layer() if token.spiking and token.weighted][
            :-1
        ]
        if KINDS[settings.coding].encode is not None:
            sent.append(math.prod(coded))
        self._most_sent = max(sent, default=0)
        self._plain_names = frozenset(self.state_dict())
        self.register_load_state_dict_pre_hook(take_former_names)

    @classmethod
    def of(cls, settings: NetworkConfig, backend: str | None = None) -> Self:
        """Make the network of ``settings``."""
        return cls(**settings.arguments(), backend=backend)

    @property
    def code(self) -> Coding | None:
        """The coding; None for a purely artificial network."""
        # A module cannot be called "code": torch.export makes a GraphModule, in which that is the text of its program.
        return self.coder

    @property
    def is_plain(self) -> bool:
        """True if the state has the names that it was made with: no pruning, parametrisation or other module."""
        return self._plain_names == self.state_dict().keys()

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that rebuild this network, as plain types and tensors.

        ``backend`` is not among them: a network can be used on another backend than it was trained on.
        """
        return self.settings.arguments()

    def forward(self, images: Tensor, *, per_step: bool = False, rates: bool = False) -> Any:
        """The logits ``[B, classes]`` of ``images`` ``[B, *input_shape]``: spike counts, of the images' dtype.

        It is ``forward_features(encode_features(images))``, with the same options. The coding's noise is seeded from
        torch's generator. The logits of an image are NaN where its pixels or its features are not finite, and all
        logits where a parameter of the spiking part is not.

        Raises:
            TypeError, ValueError: ``images`` is not a floating tensor of that shape, or an option is not allowed.
        """
        return self.forward_features(self.encode_features(images), per_step=per_step, rates=rates)

    def encode_features(self, images: Tensor) -> Tensor:
        """The features ``[B, *features_shape]`` of ``images`` ``[B, *input_shape]``: the output of the artificial part.

        Activations and pools up to the border are included. The coding is not, so the features are deterministic: with
        a fixed part (:attr:`has_fixed_part`) they have to be computed only once. With Gaussian coding they are mean and
        ln sigma. A purely artificial network gives its logits, a purely spiking one the pixels.

        Raises:
            TypeError, ValueError: ``images`` is not a floating tensor of that shape.
        """
        _check("images", images, self.input_shape)
        return self.artificial(images)

    def forward_features(self, features: Tensor, *, per_step: bool = False, rates: bool = False) -> Any:
        """The logits ``[B, classes]`` of ``features`` from :meth:`encode_features`: the coding and the spiking part.

        The logits of an image are NaN where one of its features is not finite, and all logits where a parameter of the
        spiking part is not.

        Args:
            features: the features.
            per_step: return the membrane potentials of the last layer ``[T, B, classes]`` instead of their mean, for a
                loss of each step. A purely artificial network has one step.
            rates: return the pair of the logits and the firing rates, with their gradients: one for each spiking layer
                but the last, in spikes per neuron and step, a tensor ``[layers - 1]``.

        Raises:
            TypeError, ValueError: ``features`` is not a floating tensor ``[B, *features_shape]``; ``per_step`` with
                another read-out than the membrane potential.
            MemoryError: on a CPU, a layer's spike trains for all steps do not fit into memory.
        """
        _check("features", features, self.features_shape)
        if per_step and self.code is not None and self.readout != "membrane":
            raise ValueError(f"per_step needs readout='membrane'; got readout={self.readout!r}")
        found: list[Tensor] = []
        if self.code is None:
            logits = features[None] if per_step else features
        else:
            self._require_memory(features)
            logits = self._read(self._through(self.code(features), found if rates else None), features, per_step)
        return (logits, torch.stack(found) if found else features.new_zeros(0)) if rates else logits

    def _through(self, signal: Signal, rates: list[Tensor] | None) -> Tensor:
        """The read-out of the last layer. ``rates`` receives the firing rates of the others."""
        for layer, behind in pairwise(self.spiking):
            # The weights of the next layer meet spikes where the axon and they change places.
            swapped = signal.value.device.type == "cpu" and layer.leaves_axon_to(behind)
            value = layer(signal, unfiltered=swapped or rates is not None)
            if rates is not None:
                rates.append(value.mean(dtype=torch.float32))
            if swapped:
                signal = Signal(value, spikes=True, axon=layer.neurons.axon)
            elif rates is not None and layer.neurons.axon is not None:
                signal = Signal(layer.neurons.axon(value))
            else:
                signal = Signal(value, spikes=layer.sends_spikes())
        return self.spiking[-1](signal)

    def _read(self, value: Tensor, features: Tensor, per_step: bool) -> Tensor:
        """The logits of the last layer's read-out ``value``."""
        if self.readout == "membrane" and not per_step:
            value = value.mean(0, dtype=torch.promote_types(value.dtype, torch.float32))
        # A membrane potential of NaN does not fire, so a NaN would give a count of 0. It gives NaN.
        mark = (features.detach() * 0).flatten(1).sum(1, keepdim=True) + self._not_finite()
        return value + mark.to(value.dtype)

    def train(self, mode: bool = True) -> Self:
        """Set the mode. Fixed artificial layers stay as they are used: their norms keep their statistics."""
        super().train(mode)
        if self.fixed_artificial:
            self.artificial.eval()
        return self

    def folded(self) -> "HybridNetwork":
        """The network without batch norm that has the logits of this one in ``eval()``, up to rounding.

        The norms become a part of the weights before them, so they cost nothing.

        Raises:
            ValueError: the network has modules or tensors that :attr:`config` does not describe.
        """
        return transfer.folded(self)

    def nir_part(self) -> tuple[nn.Sequential, Shape]:
        """Return the spiking part behind the coding, for :func:`hnn_kernels.nir.export`, and the shape of its input.

        The chain takes the coded train ``[T, B, *shape]``, and gives the last layer's spike train, whose sum over time
        is the logits. It shares this network's parameters.

        Raises:
            ValueError: the network is purely artificial, or has batch norm, which :meth:`folded` makes a part of the
                weights.
        """
        if self.coder is None:
            raise ValueError(f"the architecture must have a spiking part; got {self.architecture}")
        if any(token.norm for token in self.layers if token.spiking):
            raise ValueError(f"the spiking part must have no batch norm; fold that of {self.architecture} (folded())")
        return chain(self.coder.axon, self.spiking), build.features_shape(self.settings)

    def _not_finite(self) -> Tensor:
        """NaN if a parameter of the spiking part is not finite, else 0: a tensor without axes."""
        # A quantised or distributed tensor need not have extremes.
        plain = [p.detach() for p in self.spiking.parameters() if p.numel() and not hasattr(p, "__tensor_flatten__")]
        extremes = [extreme for tensor in plain for extreme in tensor.aminmax()]
        return (torch.stack(extremes) * 0).sum() if extremes else torch.zeros(())

    def _require_memory(self, features: Tensor) -> None:
        """Refuse a call whose largest spike trains cannot fit into memory. Where there is a GPU, torch does so."""
        needed = self.steps * len(features) * self._most_sent * features.itemsize
        if needed > _LARGE and features.device.type == "cpu" and not torch.compiler.is_compiling():
            require_bytes(f"a call with {len(features)} images and {self.steps} steps", needed, features.device)

    @property
    def has_fixed_part(self) -> bool:
        """True if the artificial layers are fixed, so that :meth:`encode_features` does not change in training."""
        return self.fixed_artificial

    @property
    def pretraining_config(self) -> dict[str, Any]:
        """The arguments of a purely artificial network of the same layers, which :meth:`load_artificial` accepts."""
        return self.settings.pretraining().arguments()

    def load_artificial(self, source: "HybridNetwork") -> None:
        """Copy the layers up to the border from a trained network: the first half of separate learning (section 3.1).

        Args:
            source: a purely artificial network that begins with the same layers and activations, such as the one that
                :attr:`pretraining_config` describes. It does not change, and shares no memory with this network.

        Raises:
            TypeError: ``source`` is not a network.
            ValueError: ``source`` is another network, or this network has no such part to load.
        """
        if not isinstance(source, HybridNetwork):
            raise TypeError(f"source must be a HybridNetwork; got {type(source).__name__}")
        transfer.load_artificial(self, source)

    def plain_state(self, *, keep_dtypes: bool = True) -> dict[str, Tensor]:
        """The state of the plain network with the same weights: :attr:`config` rebuilds that network.

        Pruning, parametrisations, weight and spectral normalisation make weights from other tensors; the state has the
        weights that they make. A bias that was taken away is zero. Hooks are no state.

        Args:
            keep_dtypes: False to refuse a network of other dtypes than the plain one has when it is made.

        Raises:
            ValueError: the network has modules or tensors that :attr:`config` does not describe.
        """
        with torch.device("meta"):
            plain = HybridNetwork.of(self.settings)
        return plain_state(self, plain, keep_dtypes)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As ``torch.nn.Module.load_state_dict``, also for the state of a wrapped network.

        The names that :func:`torch.compile` (``_orig_mod.``), ``DataParallel``, ``DistributedDataParallel`` and
        ``AveragedModel`` (``module.``) give to parameters are understood. ``AveragedModel``'s count of updates is left
        out.
        """
        if isinstance(state_dict, Mapping):
            state_dict = with_names_of(self, state_dict)
        return super().load_state_dict(state_dict, strict, assign)

    def modules_by_token(self) -> Iterator[tuple[Token, Shape, nn.Module]]:
        """Every token with the shape of its output and its module: Linear, Conv2d, SpikingLayer or MaxPool2d."""
        modules = map(self.get_submodule, self._names_of_tokens)
        yield from zip(self.layers, self.shapes, modules, strict=True)

    def modules_by_layer(self) -> Iterator[tuple[Token, Shape, nn.Module | None]]:
        """As :meth:`modules_by_token`, with None for the module of a token without weights."""
        for token, shape, module in self.modules_by_token():
            yield token, shape, module if token.weighted else None

    def extra_repr(self) -> str:
        """The arguments, for ``repr(network)``."""
        return (
            f"{self.architecture!r}, input_shape={self.input_shape}, coding={self.coding!r}, steps={self.steps}, "
            f"input={self.input!r}"
        )

    def __str__(self) -> str:
        """The table of :mod:`hnn_models.network.table`."""
        return table.text(self)


def _check(name: str, value: Tensor, shape: Shape) -> None:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{name} must be a floating tensor; got {kind}")
    if value.shape[1:] != shape:
        raise ValueError(f"{name} must be [B, {', '.join(map(str, shape))}]; got {tuple(value.shape)}")
