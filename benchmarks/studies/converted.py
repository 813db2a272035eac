"""Training steps of other libraries' example networks, as they are and converted (:func:`hnn_kernels.convert`).

    python -m benchmarks.studies.converted [--turns 15] [--threads 1] [--only NAME]

Both networks have the same weights and run in turns in one process. A step is forward, the loss, backward, a step of
SGD and the library's reset. The figures are medians of the step, the factor that of the medians. The examples are the
libraries' own, or as near as their data allows: a layer of 256 behind 100 inputs and 10 outputs for the perceptrons
(50 steps, a batch of 16), and SpikingJelly's conv_fashion_mnist with 32 channels (4 steps, a batch of 8), whose
convolutions and batch norms take most of the time.
"""

import argparse
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import hnn_kernels

from ..core.timing import CPUClock, Plan, Variant, figures, interleave

STEPS, BATCH, INPUTS, HIDDEN, CLASSES = 50, 16, 100, 256, 10


class Example(NamedTuple):
    """A network with its batch, time in front or behind the batch.

    Attributes:
        network: the network, which returns spikes, or spikes and a state.
        x: its input.
        axis: the axis of time of its output.
        reset: the library's reset between batches.
    """

    network: nn.Module
    x: Tensor
    axis: int
    reset: Callable[[nn.Module], Any]


def _train(*shape: int) -> Tensor:
    return (torch.rand(shape) < 0.3).float() * 3


def spikingjelly_perceptron() -> Example:
    """SpikingJelly's lif_fc_mnist with a hidden layer, in step mode m."""
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    given = {"surrogate_function": surrogate.ATan(), "v_threshold": 0.5}
    network = nn.Sequential(
        layer.Linear(INPUTS, HIDDEN), neuron.LIFNode(**given), layer.Linear(HIDDEN, CLASSES), neuron.LIFNode(**given)
    )
    functional.set_step_mode(network, "m")
    return Example(network, _train(STEPS, BATCH, INPUTS), 0, functional.reset_net)


def spikingjelly_convolutions() -> Example:
    """SpikingJelly's conv_fashion_mnist."""
    from spikingjelly.activation_based import functional, layer, neuron, surrogate

    def stage(channels: int) -> list[nn.Module]:
        convolution = layer.Conv2d(channels, 32, kernel_size=3, padding=1, bias=False)
        return [convolution, layer.BatchNorm2d(32), fire(), layer.MaxPool2d(2, 2)]

    def fire() -> nn.Module:
        return neuron.IFNode(surrogate_function=surrogate.ATan())

    network = nn.Sequential(
        *stage(1), *stage(32), layer.Flatten(), layer.Linear(32 * 7 * 7, 32 * 4 * 4, bias=False), fire(),
        layer.Linear(32 * 4 * 4, CLASSES, bias=False), fire(),
    )  # fmt: skip
    functional.set_step_mode(network, "m")
    return Example(network, torch.rand(4, 8, 1, 28, 28), 0, functional.reset_net)


def sinabs_perceptron() -> Example:
    """Linear layers and sinabs' LIF and IAF, as its documentation sets them: several spikes a step, min_v_mem -1."""
    import sinabs
    import sinabs.activation as sa
    import sinabs.layers as sl

    given = {"min_v_mem": -1.0, "surrogate_grad_fn": sa.PeriodicExponential()}
    network = nn.Sequential(
        nn.Linear(INPUTS, HIDDEN), sl.LIF(tau_mem=20.0, **given), nn.Linear(HIDDEN, CLASSES), sl.IAF(**given)
    )
    return Example(network, _train(BATCH, STEPS, INPUTS), 1, sinabs.reset_states)


def norse_perceptron() -> Example:
    """Norse's SequentialState of linear layers, LIF, and LI as the read-out."""
    import norse.torch as nt

    network = nt.SequentialState(nn.Linear(INPUTS, HIDDEN), nt.LIF(), nn.Linear(HIDDEN, CLASSES), nt.LI())
    return Example(network, 5 * _train(STEPS, BATCH, INPUTS), 0, id)


EXAMPLES = {
    "spikingjelly MLP": spikingjelly_perceptron,
    "spikingjelly CNN": spikingjelly_convolutions,
    "sinabs MLP": sinabs_perceptron,
    "norse MLP": norse_perceptron,
}


def step(example: Example) -> Callable[[], None]:
    """Return a function that runs one training step of the example."""
    batch = example.x.shape[1 - example.axis]
    labels = torch.arange(batch) % CLASSES
    # Without a rate the weights, and so the work of a step, stay as they are.
    optimizer = torch.optim.SGD(example.network.parameters(), lr=0.0)

    def run() -> None:
        out = example.network(example.x)
        out = out[0] if isinstance(out, tuple) else out
        nn.functional.cross_entropy(out.mean(example.axis), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        example.reset(example.network)

    return run


def pair(make: Callable[[], Example]) -> dict[str, Callable[[], None]]:
    """Return the steps of the example as it is and converted.

    Raises:
        RuntimeError: a neuron is left; the message has the report.
    """
    steps = {}
    for name in ("library", "converted"):
        torch.manual_seed(0)
        example = make()
        if name == "converted":
            report = hnn_kernels.convert(example.network)
            if report.left or not report.replaced:
                raise RuntimeError(str(report))
        steps[name] = step(example)
    return steps


def main() -> None:
    """Print a line for each example: the library's step, the converted one, and the factor."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=15, help="turns of each variant (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads (default: %(default)s)")
    parser.add_argument("--only", choices=EXAMPLES, help="one example alone")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name, make in EXAMPLES.items():
        if arguments.only not in (None, name):
            continue
        variants: dict[str, Variant] = {one: lambda _, call=call: call() for one, call in pair(make).items()}
        laps, failed = interleave(variants, Plan(turns=arguments.turns, seconds=math.inf, most=1), CPUClock())
        for error in failed.values():
            raise error
        library, converted = (figures(map(sum, laps[one]))["median_ms"] for one in ("library", "converted"))
        print(f"{name:18} {library:7.1f} ms, converted {converted:6.1f} ms: {library / converted:.2f} times")


if __name__ == "__main__":
    main()
