"""From the values of options to images and networks."""

import re
from typing import Any

import torch

import hnn_kernels

from ..data.datasets import load_images
from ..data.images import ImageSet
from ..network.network import HybridNetwork
from ..network.notation import parse
from ..training.launch import launch


def images_for(
    architecture: str,
    dataset: str,
    data_dir: str | None,
    download: bool,
    shape: tuple[int, ...] | None = None,
) -> ImageSet:
    """Load the images, once the architecture is known to be one: for a wrong one nothing is loaded or fetched."""
    if download and launch().world > 1:
        raise ValueError("--download is for one process: fetch the data before several are started")
    parse(architecture)
    images = load_images(dataset, data_dir, download=download, shape=shape)
    parse(architecture, classes=images.classes)
    return images


def image_shape(text: str | None) -> tuple[int, ...] | None:
    """The shape that the value of ``--image-shape`` gives, such as ``"3,32,32"``."""
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]+,[0-9]+,[0-9]+", text, re.ASCII):
        raise ValueError(f"--image-shape must be C,H,W, such as 3,32,32; got {text!r}")
    return tuple(int(number) for number in text.split(","))


def build(architecture: str, images: ImageSet, seed: int, backend: str | None = None, **options: Any) -> HybridNetwork:
    """Make the network with the initial weights of ``seed``."""
    torch.manual_seed(seed)
    return HybridNetwork(architecture, images.shape, backend=backend, **options)


def backend_of(network: HybridNetwork, device: torch.device, requested: str | None) -> str:
    """The name of the backend that the network runs on."""
    chosen = hnn_kernels.explain(device, backend=requested).chosen
    return chosen if network.spiking else "none, no layer is spiking"
