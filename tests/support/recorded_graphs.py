"""Graphs of the CPU in the place of CUDA's: a list of the operators that ran, which a replay calls again.

A replay writes its results where the first ones are, as a CUDA graph does: what is a constant there is one here.
"""

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hnn_kernels import graphs

_fork = torch.random.fork_rng


class _Record(TorchDispatchMode):
    def __init__(self, calls):
        super().__init__()
        self.calls, self.before, self.made = calls, {}, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        kwargs = kwargs or {}
        for given in tree_leaves((args, kwargs)):  # not all that is written is marked in a schema
            if isinstance(given, torch.Tensor) and given.data_ptr() not in self.made:
                self.before.setdefault(given.data_ptr(), (given.data, given.detach().clone()))
        result = func(*args, **kwargs)
        results = tree_leaves(result)
        self.made |= {r.data_ptr() for r in results if isinstance(r, torch.Tensor)} - self.before.keys()
        self.calls.append((func, args, kwargs, results))
        return result

    def undo(self):
        """Put back what was there before."""
        for tensor, before in self.before.values():
            tensor.copy_(before)


class RecordedGraph:
    """In the place of :class:`torch.cuda.CUDAGraph`."""

    def __init__(self):
        self.calls, self.replays = [], 0

    def replay(self):
        self.replays += 1
        with torch.no_grad():
            for func, args, kwargs, results in self.calls:
                for result, new in zip(results, tree_leaves(func(*args, **kwargs)), strict=True):
                    if isinstance(result, torch.Tensor) and result.data_ptr() != new.data_ptr():
                        result.copy_(new)


@contextmanager
def _capture(graph, **options):
    """A capture does not run what it captures. Here it runs, and is undone."""
    with _fork(devices=[]), _Record(graph.calls) as record:
        yield
    with torch.no_grad():
        record.undo()


def install(monkeypatch):
    """Let hnn_kernels.graphs and torch capture on the CPU; return the list of the graphs that are made."""
    stream = SimpleNamespace(wait_stream=lambda other: None)
    made: list[RecordedGraph] = []

    def new():
        made.append(RecordedGraph())
        return made[-1]

    for name, value in {
        "CUDAGraph": new, "graph": _capture, "Stream": lambda *_: stream, "synchronize": lambda *_: None,
        "current_stream": lambda *_: stream, "stream": lambda _: nullcontext(), "device": lambda _: nullcontext(),
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.cuda.graphs, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: _fork(devices=[]))
    monkeypatch.setattr(graphs, "_DEVICE", "cpu")
    return made
