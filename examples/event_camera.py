"""Event-camera recordings from a folder: events become frames, and a spiking convolutional network learns them.

    python examples/event_camera.py                     # makes recordings of moving dots
    python examples/event_camera.py --folder recordings # one folder per class, with .npy files
    python examples/event_camera.py --nmnist data       # N-MNIST by the package tonic, which downloads it once

A .npy file is a structured array with the fields x, y, t and p, in any order and dtype, as tonic has them.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch.nn import BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d, Sequential
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

import hnn_kernels
from hnn_kernels import nn

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--folder", type=Path)
parser.add_argument("--nmnist", type=Path)
parser.add_argument("--size", type=int, default=34, help="pixels of the camera, in each direction; N-MNIST has 34")
parser.add_argument("--steps", type=int, default=10)
parser.add_argument("--epochs", type=int, default=3)
args = parser.parse_args()
torch.manual_seed(0)
hnn_kernels.keep_what_is_freed()  # on Linux, memory that is freed is used again at once


def to_frames(events: np.ndarray, steps: int, size: int) -> np.ndarray:
    """Count the events of each polarity, pixel and part of the time: [steps, 2, size, size]."""
    time = events["t"].astype(np.float64)
    time = time - time.min()
    step = np.minimum((time / max(time.max(), 1e-9) * steps).astype(int), steps - 1)
    frames = np.zeros((steps, 2, size, size), np.float32)
    np.add.at(frames, (step, events["p"].astype(int), events["y"].astype(int), events["x"].astype(int)), 1)
    return frames


class EventFolder(Dataset):
    """The recordings ``root/<class>/*.npy`` as frames."""

    def __init__(self, root: Path) -> None:
        self.classes = sorted(path.name for path in root.iterdir() if path.is_dir())
        self.files = [(path, i) for i, name in enumerate(self.classes) for path in sorted((root / name).glob("*.npy"))]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        path, label = self.files[index]
        return to_frames(np.load(path), args.steps, args.size), label


def record_dots(root: Path, each: int = 40) -> Path:
    """Write recordings of a dot that moves right or left."""
    random = np.random.default_rng(0)
    for name, way in (("left", -1), ("right", 1)):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            events = np.zeros(400, [("x", "i2"), ("y", "i2"), ("t", "i8"), ("p", "i1")])
            events["t"] = np.sort(random.integers(0, 100_000, 400))
            path = events["t"] / 100_000 if way > 0 else 1 - events["t"] / 100_000
            events["p"] = random.integers(0, 2, 400)
            # The front of the dot becomes brighter (1), its back darker (0).
            events["x"] = np.clip(3 + path * (args.size - 8) + way * (2 * events["p"] - 1), 0, args.size - 1)
            events["y"] = random.integers(5, args.size - 6) + random.integers(-2, 3, 400)
            np.save(root / name / f"{number}.npy", events)
    return root


if args.nmnist:
    import tonic

    NMNIST = tonic.datasets.NMNIST
    make = tonic.transforms.ToFrame(sensor_size=NMNIST.sensor_size, n_time_bins=args.steps)
    data = NMNIST(args.nmnist, transform=lambda events: make(events).astype(np.float32))
    args.size, classes = NMNIST.sensor_size[0], len(NMNIST.classes)
else:
    data = EventFolder(args.folder or record_dots(Path("dots")))
    classes = len(data.classes)

behind = ((args.size - 2) // 2 - 2) // 2
network = Sequential(
    # A convolution knows no time: it takes each step by itself. The normalisation brings its output near the threshold.
    nn.EachStep(Conv2d(2, 8, 3, bias=False), BatchNorm2d(8)),
    nn.LIF(0.8, reset="subtract"),
    nn.EachStep(MaxPool2d(2), Conv2d(8, 16, 3, bias=False), BatchNorm2d(16)),
    nn.LIF(0.8, reset="subtract"),
    nn.EachStep(MaxPool2d(2), Flatten()),
    Linear(16 * behind**2, classes),  # takes any leading axes
    nn.LIF(0.9, reset="none", readout="none", potential="mean"),  # [B, classes]
)
optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
for epoch in range(args.epochs):
    losses, right = 0.0, 0
    for frames, labels in DataLoader(data, 16, shuffle=True):
        out = network(frames.transpose(0, 1))  # [B, T, ...] to [T, B, ...]: a view, which the kernels read in place
        loss = cross_entropy(out, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses += loss.item() * len(labels) / len(data)
        right += (out.argmax(1) == labels).sum().item()
    print(f"epoch {epoch + 1}: loss {losses:.3f}, {right / len(data):.0%} right in training")
