"""Unrolling a model: its loop over time becomes one call per layer."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from .._convert.libraries import stays
from . import marks, of_lif, of_norse, of_snntorch, of_spikingjelly
from .analysis import BlankUsedError, RefusedError
from .contract import Layer, contract
from .kinds import Match
from .marks import UnrollWarning

# The table: each entry knows the neurons of one library.
_FINDERS = (of_lif.find, of_snntorch.find, of_spikingjelly.find, of_norse.find)
_MOST = 64  # compiled loops of one model: for shapes of inputs, training and evaluation, with and without gradients


class Unrolled(nn.Module):
    """A model whose loop over time runs as one call per layer: what :func:`hnn_kernels.unroll` returns.

    Attributes:
        model: the model itself, with its parameters and states. It can be used as before, also in turns with this.
        report: a :class:`hnn_kernels.UnrolledLayer` for each layer of the loop that was compiled last. Neurons that
            were not known are in it too.
        refused: why the last call ran the model as it is; empty if it did not.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training
        self.report: tuple[Layer, ...] = ()
        self.refused = ""
        self._left: list[Layer] = []
        self._marks: list[marks.Mark] = []
        for name, module in model.named_modules():
            found = next((found for find in _FINDERS if (found := find(module)) is not None), None)
            if isinstance(found, Match):
                self._marks.append(marks.Mark(name, module, *found))
                continue
            why = stays(type(module)) if found is None else found
            # A module of the library inside of a known neuron is a part of it.
            if why and not any(not mark.name or name.startswith(f"{mark.name}.") for mark in self._marks):
                self._left.append(Layer(name, type(module).__name__, 0, False, why))
        self._said: set[str] = set()
        self._refusals: dict[tuple, str] = {}
        self._compiled: Any = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the model returns."""
        if torch.compiler.is_compiling():
            return self.model(*args, **kwargs)
        surroundings = self.model.training, torch.is_grad_enabled()
        self.refused = self._refusals.get(surroundings, "")
        if self.refused:
            return self.model(*args, **kwargs)
        try:
            return self._run(args, kwargs)
        except (torch._dynamo.exc.TorchDynamoException, torch._dynamo.exc.FailOnRecompileLimitHit) as error:
            reason, for_good = _reason(error)
        result = self.model(*args, **kwargs)  # raises what is wrong with the model itself
        self.refused = reason
        if for_good:
            self._refusals[surroundings] = reason
        self._warn(f"the loop is left as it was: {reason}")
        return result

    def _cannot(self) -> list[Layer]:
        """Return the neurons whose steps cannot be one call, by their options or their class."""
        by_options = [
            Layer(mark.name, mark.original.__name__, 0, False, why)
            for mark in self._marks
            if (why := mark.kind.refusal(mark.module))
        ]
        return [*by_options, *self._left]

    def _run(self, args: Any, kwargs: Any) -> Any:
        if self._compiled is None:
            self._compiled = self._compile()
        # Inside of DistributedDataParallel the compiler would split the graph, and the chains, by buckets of gradients.
        whole = torch._dynamo.config.patch(recompile_limit=_MOST, optimize_ddp=False)
        with marks.marked(self._marks), whole:
            try:
                return self._compiled(*args, **kwargs)
            except torch._dynamo.exc.BackendCompilerFailed as error:
                if not isinstance(error.inner_exception, BlankUsedError):
                    raise
            for mark in self._marks:
                mark.without_blanks()
            return self._compiled(*args, **kwargs)

    def _compile(self) -> Any:
        marks.make_known()
        of_spikingjelly.make_known()
        model = self.model

        def loop(*args: Any, **kwargs: Any) -> Any:
            return model(*args, **kwargs)

        # The compiler keeps what it compiled with the code, which other models must not share.
        loop.__code__ = loop.__code__.replace(co_name=f"loop_{id(self)}")
        return torch.compile(loop, backend=self._contract, fullgraph=True, dynamic=False)

    def _contract(self, graph_module: torch.fx.GraphModule, _: Sequence[Any]) -> Any:
        contracted, layers = contract(graph_module)
        self.report = (*layers, *self._left)
        for layer in self.report:
            if not layer.unrolled:
                self._warn(str(layer))
        return contracted.forward

    def _warn(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            warnings.warn(text, UnrollWarning, stacklevel=2)

    def __reduce__(self) -> tuple:
        return Unrolled, (self.model,)

    def train(self, mode: bool = True) -> "Unrolled":
        """Set the model to training or evaluation."""
        super().train(mode)
        return self


def _reason(error: Exception) -> tuple[str, bool]:
    """Return why a loop was not compiled, and if no later call may be."""
    inner = getattr(error, "inner_exception", error)
    if isinstance(inner, RefusedError):
        return str(inner), True
    if isinstance(error, torch._dynamo.exc.FailOnRecompileLimitHit):
        return f"more than {_MOST} kinds of calls were compiled", False
    if inner is not error:
        return f"unrolling it failed with {type(inner).__name__}: {inner}", True
    text = str(error).strip()
    what = text.splitlines()[0] if text else type(error).__name__
    where = [line.strip() for line in text.splitlines() if line.strip().startswith('File "')]
    return f"the compiler cannot take it as one graph: {what}{f' ({where[-1]})' if where else ''}", True


def unroll(model: nn.Module) -> Unrolled:
    """Let a model whose ``forward`` loops over time run each layer over all its steps in one call::

        unrolled = hnn_kernels.unroll(model)
        loss = criterion(unrolled(images), labels)  # in place of model(images)

    ``torch.compile`` follows the loop, and a pass over the graph puts the calls of a layer at all steps together: those
    of neurons become one kernel, those of layers without a state one call over all steps. Batch norm in training and
    dropout keep their meaning of a step. Spikes, potentials and gradients are those of the loop up to rounding.

    Neurons are :class:`hnn_kernels.nn.LIF`, called with ``return_state=True`` for one step, those of snnTorch 1.x,
    SpikingJelly's with ``step_mode="s"`` and Norse's cells (docs/from-snntorch.md and so on).
    Where a layer's output comes back to it at a later step, where a neuron has no counterpart or a state is changed
    between steps, that layer's steps run as they were; where the loop is no graph (``print``, a branch on values), the
    whole loop does. An :class:`hnn_kernels.UnrollWarning` then says why, and so does ``report`` or ``refused``.

    The model is not changed, and can be called as before. An option or a parameter that is set later has its effect.
    Other shapes, evaluation, and ``torch.no_grad`` are compiled at their first call, which takes a second or more.

    Args:
        model: the model. It is called with the arguments of the result.

    Returns:
        A module that returns what the model returns. Its ``model`` is the model, its ``report`` has a
        :class:`hnn_kernels.UnrolledLayer` for each layer of the loop after the first call.

    Raises:
        TypeError: ``model`` is no module.
        ValueError: no neuron of the model can be computed over all steps. The message has the reason of each.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module; got {type(model).__name__}")
    unrolled = Unrolled(model)
    left = unrolled._cannot()
    if len(left) == len(unrolled._marks) + len(unrolled._left):
        why = "; ".join(f"{layer.name or 'the model'} ({layer.kind}): {layer.why}" for layer in left)
        raise ValueError(f"model has no neurons whose steps can be one call{f': {why}' if why else ''}")
    return unrolled
