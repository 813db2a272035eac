"""Graphs of NIR, and networks to write as graphs."""

from itertools import pairwise

import numpy as np

DT = 1e-3


def spread(bounds, shape, per_neuron, generator):
    """A number between ``bounds`` for each neuron, or one for all, in the neurons' shape."""
    low, high = bounds
    return np.broadcast_to(generator.uniform(low, high, shape if per_neuron else ()), shape).copy()


def graph(shape, edges=None, **nodes):
    """A graph with an input and an output around ``nodes``, in a row or with ``edges``."""
    import nir

    names = ["input", *nodes, "output"]
    ends = {
        "input": nir.Input({"input": None if shape is None else np.array(shape)}),
        "output": nir.Output({"output": None if shape is None else np.array(shape)}),
    }
    edges = list(pairwise(names)) if edges is None else edges
    return nir.NIRGraph(nodes=nodes | ends, edges=edges, type_check=False)
