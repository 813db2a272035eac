"""The work around a provider's layers, equal for all providers: the inputs, and the weights before the neurons."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from itertools import cycle
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .cases import Case
from .fairness import Agreement, check, gain_for, part
from .layer import Layer, MakeLayer, Provider, Weights, layer_of
from .operations import OPS, Dynamics
from .timing import Variant, clock_of, once

ROTATED_BYTES = 256 << 20  # twice the L2 cache of any current GPU


class Work(NamedTuple):
    """An operation with a provider's layers in it.

    Attributes:
        items: pairs of an input and a target, used in turns. The target is the output's gradient, or labels.
        forward: a function from a pair to the tensor at which backward starts: the output, or the loss.
        backward: a function of that tensor and the pair, which computes the gradients.
        check: a function that compares each layer, on the current that it gets for the first pair, with the reference.
            It raises an error for one that disagrees.
        data: the inputs are data that is there anyway. Otherwise what backward keeps of them is part of the tape.
    """

    items: Sequence[tuple[Tensor, Tensor]]
    forward: Callable[[Tensor, Tensor], Tensor]
    backward: Callable[[Tensor, Tensor, Tensor], object]
    check: Callable[[], Iterable[Agreement]]
    data: bool = False

    def variant(self) -> Variant:
        """A function for the timing loop. Each call takes the next item."""
        items = cycle(self.items)

        def call(lap: Callable[[], None]) -> None:
            x, target = next(items)
            out = self.forward(x, target)
            lap()
            self.backward(out, x, target)

        return call


class Workload:
    """A case on a device: a layer of neurons, with weights before it if the operation has them.

    The input, or the weights, are scaled to a common spike rate.

    Attributes:
        dtype: the dtype of the currents.
        neuron_steps: the neuron-steps of all layers together.
    """

    def __init__(self, case: Case, device: torch.device) -> None:
        self.case, self.op, self.device = case, OPS[case.op], device
        self.dtype = case.torch_dtype
        self.neuron_steps = case.neuron_steps
        torch.manual_seed(0)
        self.build()

    def build(self) -> None:
        """Choose inputs and weights."""
        shape = self.case.shape
        copies = rotated(self.neuron_steps * self.dtype.itemsize, self.device)
        inputs = [torch.randn(shape, device=self.device) for _ in range(copies)]
        self.weights: nn.Linear | None = None
        if self.op.kind == "linear":
            self.weights = nn.Linear(shape[-1], shape[-1], device=self.device)
            with torch.no_grad():
                scale(self.weights, self.weights(part(inputs[0])), self.op.dynamics)
        else:
            gain = gain_for(inputs[0] + 0.5, self.op.dynamics)
            inputs = [x.add_(0.5).mul_(gain).to(self.dtype) for x in inputs]
        grads = [torch.randn(shape, device=self.device).to(self.dtype) for _ in range(copies)]
        self.items = [(x.requires_grad_(), grad) for x, grad in zip(inputs, grads, strict=True)]

    def of(self, provider: Provider) -> Work:
        """The operation as ``provider`` does it. It must run under :meth:`precision`.

        Raises:
            Unsupported: it cannot.
        """
        return self.work(partial(layer_of, provider, device=self.device, dtype=self.dtype))

    def work(self, make: MakeLayer) -> Work:
        """The operation with layers from ``make``. It must run under :meth:`precision`."""
        layer = make(self.op.dynamics, self.case.shape[2:])
        if self.op.stepping:
            layer = layer.stepping()
        weights = self.weights or nn.Identity()
        leaves = (*layer.learnt, *weights.parameters())

        return Work(
            self.items,
            lambda x, _: layer.run(weights(x)),
            lambda out, x, grad: torch.autograd.grad(out, (x, *leaves), grad),
            lambda: [check(layer, weights(self.items[0][0]).detach(), self.op.dynamics)],
        )

    def products(self) -> Work:
        """The operation without its neurons, whose output is the current: its matrix products alone."""
        return self.work(lambda dynamics, features: Layer(lambda current: current, dynamics))

    def copy(self) -> Variant:
        """A copy of an input. Each call copies the next input, always to the same memory, as a layer's output goes."""
        sources = cycle([x.detach() for x, _ in self.items])
        target = torch.empty_like(self.items[0][0])
        return lambda lap: target.copy_(next(sources))

    @contextmanager
    def precision(self) -> Iterator[None]:
        """Set the dtype of products: TensorFloat-32 for ``"tf32"`` only, bfloat16 under autocast."""
        before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        torch.set_float32_matmul_precision("high" if self.case.dtype == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = self.case.dtype == "tf32"
        with ExitStack() as stack:
            if self.case.dtype == "bfloat16" and self.op.kind != "neuron":
                stack.enter_context(torch.autocast(self.device.type, torch.bfloat16))
            try:
                yield
            finally:
                torch.set_float32_matmul_precision(before[0])
                torch.backends.cudnn.allow_tf32 = before[1]


def rotated(size: int, device: torch.device) -> int:
    """The number of inputs of ``size`` bytes that take turns: on a GPU so many that each has left the cache by then."""
    return -(-ROTATED_BYTES // size) if device.type == "cuda" else 1


def scale(weights: Weights, current: Tensor, dynamics: Dynamics) -> None:
    """Scale ``weights``, which gave ``current`` ``[T, B, *features]``, so that the neurons fire; set the bias to 0."""
    with torch.no_grad():
        bias = weights.bias.view(-1, *(1,) * (current.dim() - 3))
        weights.weight.mul_(gain_for(current - bias, dynamics))
        weights.bias.zero_()


def least_seconds(case: Case, device: torch.device) -> float:
    """The least seconds of the products of a ``"linear"`` case, one forward and two backward, in float32; else 0."""
    if OPS[case.op].kind != "linear":
        return 0.0
    return 6 * case.neuron_steps * case.shape[-1] / _products_per_second(device)


@cache
def _products_per_second(device: torch.device) -> float:
    """The measured multiplications and additions per second of large float32 products."""
    size = 1536
    a, b = torch.rand(2, size, size, device=device)
    seconds = min(sum(once(lambda lap: a @ b, clock_of(device))) for _ in range(5))
    return 2 * size**3 / seconds
