"""MNIST with a spiking network in plain PyTorch: the training loop that you know.

python examples/mnist.py --data-dir data --download
"""

import argparse
import math

import torch
from torch.nn import Linear, Sequential
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST

import hnn_kernels
from hnn_kernels import nn

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--data-dir", default="data", help="holds MNIST/raw")
parser.add_argument("--download", action="store_true")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--batch-size", type=int, default=128)
parser.add_argument("--steps", type=int, default=25, help="time steps")
args = parser.parse_args()

device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)
hnn_kernels.keep_what_is_freed()  # on Linux, memory that is freed is used again at once

decay = math.exp(-1 / 10)
network = Sequential(
    Linear(784, 500),
    nn.Duplicate(args.steps),  # [B, 500] to [T, B, 500]: from here on there is time
    nn.LIF(decay, reset="subtract"),
    nn.SpikeLinear(500, 10),  # a Linear behind spikes; torch.nn.Linear does as well
    nn.LIF(decay, reset="subtract", readout="count"),  # [B, 10]: spikes of each class
).to(device)
optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

pixels = transforms.Compose([transforms.ToTensor(), transforms.Lambda(torch.flatten)])
training, test = (MNIST(args.data_dir, train, pixels, download=args.download) for train in (True, False))

for epoch in range(args.epochs):
    for images, labels in DataLoader(training, args.batch_size, shuffle=True):
        loss = cross_entropy(network(images.to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.inference_mode():
        batches = DataLoader(test, 1000)
        right = sum((network(x.to(device)).argmax(1).cpu() == y).sum().item() for x, y in batches)
    print(f"epoch {epoch + 1}: loss {loss.item():.3f}, test accuracy {right / len(test):.2%}")
