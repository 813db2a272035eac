"""The calls of a contracted graph: a layer over all its steps, one step of it, and a function over all steps."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from .effects import call
from .marks import Mark, UnrollWarning


class Train:
    """The steps of a neuron layer, in one call where its options allow."""

    def __init__(self, mark: Mark, length: int, constant: bool, train: Sequence[bool]) -> None:
        self.mark, self.length, self.constant, self.train = mark, length, constant, tuple(train)
        self.__name__ = f"train_of_{mark.name.replace('.', '_')}"

    def __call__(self, current: Tensor, *states: Tensor | None) -> list[Tensor]:
        """Return each result: ``[T, ...]`` where :attr:`train` says so, else that of the last step."""
        given = None if any(state is None for state in states) else states
        steps = self.length if self.constant else None
        found = self.mark.kind.run(self.mark.module, current, steps, given, self.train)
        if isinstance(found, str):
            name = self.mark.name or "the model"
            warnings.warn(f"the steps of {name} ran one by one: {found}", UnrollWarning, stacklevel=2)
            return self._step_by_step(current, states)
        return found

    def _step_by_step(self, current: Tensor, states: Sequence[Any]) -> list[Tensor]:
        outputs = len(self.train) - len(states)
        steps = []
        for x in [current] * self.length if self.constant else current.unbind(0):
            steps.append(self.mark.kind.single(self.mark.module, x, states))
            states = steps[-1][outputs:]
        results = zip(*steps, strict=True)
        return [
            torch.stack(every) if whole else every[-1] for whole, every in zip(self.train, results, strict=True)
        ]  # fmt: skip


class Single:
    """One step of a neuron, as its class computes it."""

    def __init__(self, mark: Mark) -> None:
        self.mark = mark
        self.__name__ = f"step_of_{mark.name.replace('.', '_')}"

    def __call__(self, current: Tensor, *states: Tensor | None) -> Sequence[Tensor]:
        """Return the results of the step."""
        return self.mark.kind.single(self.mark.module, current, states)


class _Place:
    """The place of a tensor among the arguments of a function. It is no tuple, into which a walk over them would go."""

    def __init__(self, number: int) -> None:
        self.number = number


class Batched:
    """A function over all steps: each tensor that changes has the steps in front, and so has the result."""

    def __init__(self, node: fx.Node, changing: Sequence[int], count: int) -> None:
        places: Any = map(_Place, range(count))
        self.op, self.target = node.op, node.target
        self.arguments = fx.node.map_arg((node.args, node.kwargs), lambda _: next(places))
        self.changing = tuple(changing)
        self.__name__ = f"every_{getattr(node.target, '__name__', node.target)}"
        self.mapped = torch.vmap(self._one, in_dims=tuple(0 if i in changing else None for i in range(count)))

    def _one(self, *given: Any) -> Any:
        def fill(leaf: Any) -> Any:
            return given[leaf.number] if isinstance(leaf, _Place) else leaf

        return call(self.op, self.target, *fx.node.map_aggregate(self.arguments, fill))

    def __call__(self, *given: Any) -> Any:
        """Return the results of all steps."""
        return self.mapped(*given)


class Convolved:
    """A convolution of all steps: the steps are a part of its batch."""

    def __init__(self, function: Callable) -> None:
        self.function = function
        self.__name__ = f"every_{function.__name__}"

    def __call__(self, every: Tensor, *arguments: Any, **named: Any) -> Tensor:
        """Return the results of all steps."""
        result = self.function(every.flatten(0, 1), *arguments, **named)
        return result.unflatten(0, (every.shape[0], -1))
