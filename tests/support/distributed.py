"""Two processes that train one network together, each on a half of the batch."""

import time
import traceback
from collections.abc import Callable
from pathlib import Path
from queue import Empty
from typing import Any

import torch
from torch import Tensor, nn

# Makes a network and what is called in its place.
Make = Callable[[], tuple[nn.Module, nn.Module]]
Loss = Callable[[Any, int], Tensor]


def _part(rank: int, address: str, queue: Any, make: Make, loss: Loss) -> None:
    try:
        found = _gradients(rank, address, make, loss)
    except BaseException:
        queue.put(traceback.format_exc())
        raise
    if rank == 0:
        queue.put(found)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def _gradients(rank: int, address: str, make: Make, loss: Loss) -> list[Any]:
    torch.set_num_threads(1)  # the threads of the parent do not live in a fork
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    network, called = make()
    # A bucket for each parameter: a compiler that splits its graph by buckets would split it here.
    parallel = nn.parallel.DistributedDataParallel(called, bucket_cap_mb=1e-4)
    for _ in range(2):
        network.zero_grad()
        loss(parallel, rank).backward()
    return [parameter.grad.numpy() for parameter in network.parameters() if parameter.grad is not None]


def gradients_of_two(folder: Path, make: Make, loss: Loss) -> list[Tensor]:
    """Return the gradients of a network's parameters that DDP gives over two processes.

    ``loss`` gets what is called and the number of the process, and returns the loss of its half of the batch.
    """
    import torch._dynamo  # by the parent, once, and not by each process at the same time

    context = torch.multiprocessing.get_context("fork")
    queue = context.Queue()
    given = (f"file://{folder}/meet", queue, make, loss)
    processes = [context.Process(target=_part, args=(rank, *given)) for rank in range(2)]
    for process in processes:
        process.start()
    found, end = None, time.monotonic() + 600
    while found is None:  # on a loaded machine a process takes its time; one that has failed takes none
        assert time.monotonic() < end, "the processes hang"
        try:
            found = queue.get(timeout=1)
        except Empty:
            assert all(process.exitcode in (None, 0) for process in processes), "a process died without a word"
    if isinstance(found, str):
        for process in processes:
            process.kill()
        raise AssertionError(found)
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    return [torch.from_numpy(gradient) for gradient in found]
