"""A NIR graph that is being written."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .equations import Time, Values
from .package import nir

# The key of what a node's metadata say beyond the standard, which other libraries ignore.
OURS = "hnn_kernels"


class Value(NamedTuple):
    """A value between modules: the train that a module takes or gives.

    ``sources`` are the nodes whose outputs are added, ``shape`` is that of the features, and ``lead`` is the number of
    axes in front of them: 2 for a train ``[T, B, *shape]``, 1 where T and B are one axis.
    """

    sources: tuple[str, ...]
    shape: tuple[int, ...]
    lead: int = 2


class Draft:
    """The nodes and edges so far.

    Args:
        time: the time of a step, and the method.
        strict: refuse what the standard has no words for, instead of saying it in metadata.

    Attributes:
        time, strict: as given.
        said: what was written as metadata, a sentence for each layer.
    """

    def __init__(self, time: Time, strict: bool) -> None:
        self.time = time
        self.strict = strict
        self.said: list[str] = []
        self._nodes: dict[str, Any] = {}
        self._edges: list[tuple[str, str]] = []

    def input(self, shape: tuple[int, ...]) -> Value:
        """Begin with the input."""
        self._nodes["input"] = nir().Input({"input": np.array(shape)})
        return Value(("input",), shape)

    def add(self, name: str, node: Any, value: Value, shape: Sequence[int] | None = None) -> Value:
        """Add a node that takes ``value``; ``shape`` is that of its output, if it is another one."""
        shape = value.shape if shape is None else tuple(shape)
        # Pooling, convolution and flattening do not know their types by themselves.
        node.input_type = {"input": np.array(value.shape)}
        node.output_type = {"output": np.array(shape)}
        name = name.replace(".", "_")
        base, number = name, 1
        while name in self._nodes or name == "output":
            name, number = f"{base}_{number}", number + 1
        self._nodes[name] = node
        self._connect(value.sources, name)
        return Value((name,), shape, value.lead)

    def sum(self, values: Sequence[Value]) -> Value:
        """Add values: their edges end in one node.

        Raises:
            ValueError: their shapes differ, which is no sum in NIR.
        """
        first = values[0]
        if any(value[1:] != first[1:] for value in values):
            raise ValueError(f"a sum must be of trains of one shape; got {[value.shape for value in values]}")
        sources: list[str] = []
        for value in values:
            for source in value.sources:
                if source in sources:  # an edge is there once
                    (source,) = self.scale(source, np.array(1.0), value._replace(sources=(source,))).sources
                sources.append(source)
        return first._replace(sources=tuple(sources))

    def scale(self, name: str, factor: Values, value: Value) -> Value:
        """Add a factor."""
        return self.add(name, nir().Scale(self.spread(factor, value)), value)

    def spread(self, values: Any, value: Value) -> Values:
        """Return the values of neurons in the shape of the features, as float64.

        Raises:
            ValueError: they do not broadcast to it.
        """
        values = np.asarray(values, np.float64)
        try:
            return np.array(np.broadcast_to(values, value.shape))
        except ValueError:
            raise ValueError(f"coefficients must broadcast to the features {value.shape}; got {values.shape}") from None

    def finish(self, value: Value) -> Any:
        """Return the graph whose output is ``value``."""
        self._nodes["output"] = nir().Output({"output": np.array(value.shape)})
        self._nodes["output"].input_type = {"input": np.array(value.shape)}
        self._connect(value.sources, "output")
        return nir().NIRGraph(nodes=self._nodes, edges=self._edges)

    def _connect(self, sources: Sequence[str], name: str) -> None:
        self._edges += [(source, name) for source in sources]
