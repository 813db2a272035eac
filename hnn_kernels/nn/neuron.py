"""A neuron by definition as a module."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from .. import _checks
from .._define import layer
from .._recurrence import Recurrence
from .lif import hold, show


class Neuron(nn.Module):
    """Neurons by definition over all time steps: what :func:`hnn_kernels.neuron` makes, as a layer::

        nn.Neuron(hnn_kernels.neurons.plif, w=0.0, learn=("w",))

    The module keeps no state. A call starts from zeros unless it is given a state.

    Args:
        definition: what :func:`hnn_kernels.neuron` returned, or one of :mod:`hnn_kernels.neurons`.
        learn: names of the coefficients to train. They become parameters in torch's default dtype.
        shape: shape of a learnt coefficient, which broadcasts against the features; ``()`` keeps the shape as given.
        smooth, checkpoint_every, backend: as for the definition's call.
        coefficients: the coefficients by name, where they are not the defaults: floats or tensors.

    Shape:
        ``[T, B, *features]``, or ``[B, *features]`` with ``steps``, to ``[T, B, *features]``, or a tuple of those where
        the definition has several outputs.

    Raises:
        TypeError: an argument of the wrong type; a coefficient that is missing or not known.
        ValueError: a value, name or shape that is not allowed.
    """

    def __init__(
        self,
        definition: layer.Neuron,
        *,
        learn: Sequence[str] = (),
        shape: Sequence[int] = (),
        smooth: bool = False,
        checkpoint_every: int | None = None,
        backend: str | None = None,
        **coefficients: float | Tensor,
    ) -> None:
        super().__init__()
        if not isinstance(definition, layer.Neuron):
            got = type(definition).__name__
            raise TypeError(f"definition must be what hnn_kernels.neuron returned; got {got}")
        if isinstance(learn, str) or not isinstance(learn, Sequence):
            raise TypeError(f"learn must be a sequence of names, such as ('decay',); got {learn!r}")
        for name in learn:
            _checks.option("learn", name, definition.coefficients)
        shape = _checks.shape("shape", shape)
        values = definition.with_defaults(coefficients)
        for name, value in values.items():
            if hasattr(self, name):
                raise ValueError(f"{definition.function.__name__} has a coefficient {name}, which a module has already")
            hold(self, name, value, name in learn, shape)
        self.definition = definition
        self.smooth = _checks.flag("smooth", smooth)
        self.checkpoint_every = checkpoint_every
        if checkpoint_every is not None:
            self.checkpoint_every = _checks.positive_int("checkpoint_every", checkpoint_every)
        self.backend = backend

    def forward(
        self,
        current: Tensor,
        *,
        steps: int | None = None,
        state: Sequence[Tensor] | None = None,
        return_state: bool = False,
        recurrence: Recurrence | None = None,
    ) -> Any:
        """Return the output, or the outputs, of ``current``.

        With ``return_state`` also return the states with which a later call continues. ``recurrence`` is what a
        :class:`hnn_kernels.nn.Recurrent` passes.
        """
        out, after = self.definition(
            current, state=state, steps=steps, smooth=self.smooth, return_state=return_state,
            checkpoint_every=self.checkpoint_every, backend=recurrence or self.backend,  # type: ignore[arg-type]
            **{name: getattr(self, name) for name in self.definition.coefficients},
        )  # fmt: skip
        return out if after is None else (out, after)

    def extra_repr(self) -> str:
        shown = [show(self, name) for name in self.definition.coefficients]
        return ", ".join([self.definition.function.__name__, *shown])
