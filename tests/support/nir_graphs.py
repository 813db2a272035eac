"""Graphs of NIR, and networks to write as graphs."""

import numpy as np

DT = 1e-3


def spread(bounds, shape, per_neuron, generator):
    """A number between ``bounds`` for each neuron, or one for all, in the neurons' shape."""
    low, high = bounds
    return np.broadcast_to(generator.uniform(low, high, shape if per_neuron else ()), shape).copy()


def graph(shape, edges=None, out=None, **nodes):
    """A graph with an input and an output around ``nodes``, in a row or with ``edges``."""
    import nir

    names = ["input", *nodes, "output"]
    ends = {
        "input": nir.Input({"input": np.array(shape)}),
        "output": nir.Output({"output": np.array(shape if out is None else out)}),
    }
    edges = list(zip(names, names[1:], strict=False)) if edges is None else edges
    return nir.NIRGraph(nodes=nodes | ends, edges=edges, type_check=False)
