"""Several processes: data-parallel training with torchrun, one process per GPU or several on a CPU.

    torchrun --nproc-per-node 2 examples/several_processes.py

Each process trains on its share of every batch, and gradients are averaged. Layers keep no state, so there is none to
share. (`torchrun ... -m hnn_models train` is the ready-made way.)
"""

import math

import torch
from torch import distributed
from torch.nn import Linear, Sequential
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from hnn_kernels import nn

on_gpus = torch.cuda.is_available()
distributed.init_process_group("nccl" if on_gpus else "gloo")
rank = distributed.get_rank()
device = torch.device("cuda", distributed.get_node_local_rank()) if on_gpus else torch.device("cpu")

torch.manual_seed(0)  # the same data and weights everywhere
inputs = torch.randn(256, 20)
data = TensorDataset(inputs, (inputs.sum(1) > 0).long())
network = Sequential(
    Linear(20, 64),
    nn.Duplicate(10),
    nn.LIF(math.exp(-1 / 5), reset="subtract", learn=("decay",)),
    Linear(64, 2),
    nn.LIF(math.exp(-1 / 5), reset="subtract", readout="count"),
).to(device)
parallel = DistributedDataParallel(network)
optimizer = torch.optim.Adam(parallel.parameters(), lr=1e-2)

sampler = DistributedSampler(data, seed=0)
for epoch in range(5):
    sampler.set_epoch(epoch)  # another order in every epoch, the same one in all processes
    for values, labels in DataLoader(data, 32, sampler=sampler):
        loss = cross_entropy(parallel(values.to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

# All processes have the same weights.
weights = torch.cat([p.detach().flatten() for p in network.parameters()])
first = weights.clone()
distributed.broadcast(first, 0)
assert torch.equal(weights, first)
if rank == 0:
    with torch.inference_mode():
        right = (network(inputs.to(device)).argmax(1).cpu() == data.tensors[1]).float().mean()
    print(f"{distributed.get_world_size()} processes, loss {loss.item():.3f}, {right:.0%} right")
distributed.destroy_process_group()
