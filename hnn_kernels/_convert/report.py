"""The account of a conversion, module by module."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload


class Conversion(NamedTuple):
    """The outcome for one module of a model.

    Attributes:
        name: the module's name in the model, as ``named_modules`` has it; empty for the model itself.
        kind: the library's class, with its module.
        replaced: True if the module's class was swapped.
        mapping: what computes it now, in words. Empty where it was left.
        exact: True if its spikes are the library's up to float rounding; False also where the module was left.
        why: why it was left, or why it is not known to be exact. Empty otherwise.
    """

    name: str
    kind: str
    replaced: bool
    mapping: str
    exact: bool
    why: str

    def __str__(self) -> str:
        kind = self.kind.rpartition(".")[2]
        said = f"{self.mapping}{'' if self.exact else ', not known to be exact'}" if self.replaced else "left"
        return f"{self.name or '(the model)'} ({kind}): {said}{f': {self.why}' if self.why else ''}"


class Report(Sequence[Conversion]):
    """The modules of known libraries that :func:`hnn_kernels.convert` met, in the model's order.

    It is a sequence of :class:`Conversion`; printed, it has a line for each. Attributes:
        replaced: those whose class was swapped.
        left: those that compute as before, each with the reason.
    """

    def __init__(self, conversions: Sequence[Conversion]):
        self._conversions = tuple(conversions)

    @property
    def replaced(self) -> tuple[Conversion, ...]:
        return tuple(one for one in self if one.replaced)

    @property
    def left(self) -> tuple[Conversion, ...]:
        return tuple(one for one in self if not one.replaced)

    @overload
    def __getitem__(self, index: int) -> Conversion: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Conversion]: ...

    def __getitem__(self, index):
        return self._conversions[index]

    def __iter__(self) -> Iterator[Conversion]:
        return iter(self._conversions)

    def __len__(self) -> int:
        return len(self._conversions)

    def __str__(self) -> str:
        head = f"replaced {len(self.replaced)} of {len(self)} modules of other libraries"
        return "\n".join([head, *(f"  {one}" for one in self)])

    __repr__ = __str__
