"""Two processes that train one network together, each on a half of the batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# Makes a network and what is called in its place.
Make = Callable[[], tuple[nn.Module, nn.Module]]
Loss = Callable[[Any, int], Tensor]


def _part(rank: int, address: str, queue: Any, make: Make, loss: Loss) -> None:
    torch.set_num_threads(1)  # the threads of the parent do not live in a fork
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    network, called = make()
    # A bucket for each parameter: a compiler that splits its graph by buckets would split it here.
    parallel = nn.parallel.DistributedDataParallel(called, bucket_cap_mb=1e-4)
    for _ in range(2):
        network.zero_grad()
        loss(parallel, rank).backward()
    if rank == 0:
        queue.put([parameter.grad.numpy() for parameter in network.parameters() if parameter.grad is not None])
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def gradients_of_two(folder: Path, make: Make, loss: Loss) -> list[Tensor]:
    """Return the gradients of a network's parameters that DDP gives over two processes.

    ``loss`` gets what is called and the number of the process, and returns the loss of its half of the batch.
    """
    context = torch.multiprocessing.get_context("fork")
    queue = context.Queue()
    given = (f"file://{folder}/meet", queue, make, loss)
    processes = [context.Process(target=_part, args=(rank, *given)) for rank in range(2)]
    for process in processes:
        process.start()
    found = queue.get(timeout=120)
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    return [torch.from_numpy(gradient) for gradient in found]
