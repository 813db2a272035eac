"""Weights from one network to another: separate learning, and batch norm folded into the weights before it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .codings import KINDS
from .tokens import Token

if TYPE_CHECKING:
    from .network import HybridNetwork


def load_artificial(network: "HybridNetwork", source: "HybridNetwork") -> None:
    """Copy the layers up to the border; see :meth:`hnn_models.HybridNetwork.load_artificial`."""
    own = [token for token in network.layers if not token.spiking]
    if not any(token.weighted for token in own) or not network.spiking:
        raise ValueError(f"{network.architecture} has no border to load artificial layers up to")
    kind = KINDS[network.coding]
    if len(kind.outputs) > 1:
        raise ValueError(
            f"{network.coding.title()} coding's last artificial layer has {kind.times} the neurons of a pretrained one"
        )
    if source.spiking:
        raise ValueError(f"source must be purely artificial; got {source.architecture}")
    theirs = source.layers[: len(own)]
    for what, mine, other in (
        ("input_shape", network.input_shape, source.input_shape),
        ("layers up to the border", _text(own), _text(theirs)),
        (
            "activation",
            network.settings.pretraining().activations[: len(network.activations)],
            source.activations[: len(network.activations)],
        ),
    ):
        if mine != other:
            raise ValueError(
                f"source must have the {what} {mine} of {network.architecture}; {source.architecture} has {other}"
            )
    state = source.plain_state()
    network.artificial.load_state_dict({name: state[f"artificial.{name}"] for name in network.artificial.state_dict()})


def folded(network: "HybridNetwork") -> "HybridNetwork":
    """The network without batch norm; see :meth:`hnn_models.HybridNetwork.folded`."""
    like = next(iter(network.parameters()), torch.empty(0))
    backend = None if network.code is None else network.code.backend
    settings = network.settings
    plain, target = (
        type(network).of(one, backend).to(like.device, like.dtype) for one in (settings, settings.unnormed())
    )
    plain.load_state_dict(network.plain_state())
    _fold(plain, target)
    return target.train(network.training)


@torch.no_grad()
def _fold(network: "HybridNetwork", target: "HybridNetwork") -> None:
    """Copy the parameters of ``network``, a plain one, into ``target``, the same network without batch norm.

    Behind batch norm with the statistics of training, ``W x`` is ``g (W x - mean) / sqrt(variance + eps) + b``: weights
    and a bias again.
    """
    if network.coder is not None and target.coder is not None:
        target.coder.load_state_dict(network.coder.state_dict())
    for (token, _, one), (_, _, other) in zip(network.modules_by_token(), target.modules_by_token(), strict=True):
        if not token.weighted:
            continue
        if token.spiking:
            rest = {key: value for key, value in one.state_dict().items() if not key.startswith(("weights.", "norm."))}
            other.load_state_dict(rest, strict=False)
        weights, norm = _parts(network, one)
        into, _ = _parts(target, other)
        factor = torch.ones(()) if norm is None else norm.weight / (norm.running_var + norm.eps).sqrt()
        into.weight.copy_(weights.weight * factor.view(-1, *(1,) * (weights.weight.dim() - 1)))
        into.bias.copy_(weights.bias if norm is None else norm.bias - factor * norm.running_mean)


def _parts(network: "HybridNetwork", module: Any) -> tuple[Any, Any]:
    """The weights of a layer, and its batch norm or None."""
    if hasattr(module, "neurons"):
        return module.weights, module.norm
    behind = list(network.artificial)[list(network.artificial).index(module) + 1 :]
    norm = behind[0] if behind and isinstance(behind[0], nn.BatchNorm1d | nn.BatchNorm2d) else None
    return module, norm


def _text(tokens: Sequence[Token]) -> str:
    return "-".join(token.text for token in tokens)
