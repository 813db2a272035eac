"""Runs a kernel: all threads of a launch at once, a register being a vector over the threads.

Threads that part meet again because those furthest behind in the code go first. That is one order of many; an order
that matters is a race, and every race is reported (memory.py).
"""

import re
from collections.abc import Callable

import numpy as np

from . import kinds, moves
from .memory import LOCAL, PARAM, Memory, Report
from .operations import operation
from .parse import Entry, Instruction, PTXError
from .threads import Threads, special_registers

_DONE = 1 << 40
_WAITING = 1 << 30
# By their names. Blocks form no clusters here, so a block's own shared memory is all that it reaches.
_SPACES = {"global": "global", "shared": "shared", "shared::cta": "shared", "local": "local", "param": "param",
           "const": "global"}  # fmt: skip
_ADDRESS = re.compile(r"\[\s*([^\s+\]]+)\s*(?:\+\s*(-?\w+))?\s*\]")
# What an instruction may be beside one that computes.
_OP, _BRANCH, _INDEXED, _EXIT, _BARRIER, _FAIL = range(6)
LIMIT = 10**7


class _Unwritten:
    """The content of a register before anything is written."""

    def __init__(self, name: str):
        self.name = name

    def view(self, dtype):
        raise Report(f"a read of {self.name}, which nothing has written")

    astype = view


class Machine:
    """A kernel, and the launch of it that runs. An instruction is prepared when it is first met, once for all launches.

    Args:
        entry: the kernel.
        variables: the address of its module's variables.

    Attributes:
        count: the threads of the launch.
        executed: the instructions that all of them together have done.
    """

    def __init__(self, entry: Entry, variables: int = 0):
        self.entry, self.variables = entry, variables
        self.registers: list = []
        self.names: list[str] = []
        self.places: dict[str, tuple[int, str]] = {}
        self.program: list = [None] * len(entry.code)

    def run(self, grid, block, shared_bytes: int, parameters: bytes, blocks) -> None:
        """Run all threads of a launch to their end.

        Args:
            grid, block: the numbers of blocks and of threads per block, along up to three axes.
            shared_bytes: the dynamic shared memory of a block.
            parameters: the bytes of the parameters.
            blocks: the starts and sizes of the blocks of global memory, [n] each, by rising start.

        Raises:
            Report: the first wrong thing that a thread did.
            PTXError: an instruction that the emulator does not know.
        """
        entry = self.entry
        if len(parameters) != entry.parameter_bytes:
            raise PTXError(f"{entry.name} has {entry.parameter_bytes} bytes of parameters, not {len(parameters)}")
        per_block = int(np.prod(block))
        self.count = int(np.prod(grid)) * per_block
        self.special = special_registers(grid, block, self.count)
        self.threads = Threads(self.count, per_block)
        static = max((v.offset + v.size for v in entry.shared.values()), default=0)
        local = max((-(-(v.offset + v.size) // 16) * 16 for v in entry.local.values()), default=0)
        self.memory = Memory(blocks, self.threads, static + shared_bytes, local, parameters)
        self.registers[:] = map(_Unwritten, self.names)
        self.all = np.arange(self.count)
        # Which threads do the current instruction: None for all that have not ended, else a mask; and their numbers.
        self.mask: np.ndarray | None = None
        self.active = self.all
        self.executed = self.at = 0
        self._run()

    # -- operands -----------------------------------------------------------------------------------------------------

    def _place(self, name: str) -> tuple[int, str]:
        if name not in self.places:
            kind = self.entry.register_type(name)
            if kind is None:
                raise PTXError(f"the operand {name!r}")
            self.places[name] = len(self.registers), kind
            self.names.append(name)
            self.registers.append(_Unwritten(name))
        return self.places[name]

    def _constant(self, text: str, kind: str):
        """The value of an operand that is no register; None if it is one."""
        dtype = kinds.dtype(kind)
        if re.fullmatch(r"0[fFdD][0-9a-fA-F]+", text):
            bits = int(text[2:], 16)
            value = (np.uint32(bits).view(np.float32) if text[1] in "fF" else np.uint64(bits).view(np.float64))[()]
            return value.view(dtype) if value.itemsize == np.dtype(dtype).itemsize else value.astype(dtype)
        if re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|\d+)U?", text):
            number = int(text.rstrip("U"), 0)
            if kind == "pred":
                return np.bool_(number != 0)
            width = kinds.bits(kind)
            return kinds.UNSIGNED[width](number & ((1 << width) - 1)).view(dtype)
        entry = self.entry
        for table, base in ((entry.parameters, int(PARAM)), (entry.shared, 0), (entry.local, int(LOCAL)),
                            (entry.variables, self.variables)):  # fmt: skip
            if text in table:
                address = (base + table[text].offset) & ((1 << kinds.bits(kind)) - 1)
                return kinds.UNSIGNED[kinds.bits(kind)](address).view(dtype)
        return None

    def source(self, text: str, kind: str) -> Callable:
        """A function that gives an operand's value."""
        dtype = kinds.dtype(kind)
        if text in self.special:
            return lambda: self.special[text].astype(dtype)
        if text.startswith("!"):
            inner = self.source(text[1:], kind)
            return lambda: ~inner()
        constant = self._constant(text, kind)
        if constant is not None:
            return lambda: constant
        place, own = self._place(text)
        registers = self.registers
        have, want = kinds.bits(own), kinds.bits(kind)
        if have == want:
            return lambda: registers[place].view(dtype)
        if have < want or own == "pred":
            raise PTXError(f"{text} of {own} as {kind}")
        narrow = kinds.UNSIGNED[want]
        return lambda: registers[place].astype(narrow).view(dtype)

    def target(self, text: str, kind: str) -> Callable:
        """A function that writes a value to a register, where the threads are active."""
        if text == "_":
            return lambda value: None
        place, own = self._place(text)
        registers = self.registers
        bits = kinds.dtype("pred" if own == "pred" else f"b{kinds.bits(own)}")
        unwritten = bits(0) if own == "pred" else bits((1 << kinds.bits(own)) - 1)
        wider = None
        if kinds.bits(own) != kinds.bits(kind):
            wider = kinds.SIGNED[kinds.bits(own)] if kind[0] == "s" else bits

        def write(value):
            value = value.view(bits) if wider is None else value.astype(wider).view(bits)
            if self.mask is not None:
                old = registers[place]
                value = np.where(self.mask, value, unwritten if isinstance(old, _Unwritten) else old)
            registers[place] = value

        return write

    def _address(self, text: str) -> Callable:
        base, offset = _ADDRESS.fullmatch(text).groups()
        constant = self._constant(base, "u64")
        width = 64 if constant is not None else kinds.bits(self._place(base)[1])
        add = kinds.UNSIGNED[width](int(offset or "0", 0) & ((1 << width) - 1))
        if constant is not None:
            fixed = constant + add
            return lambda: fixed
        register = self.source(base, f"u{width}")  # a sum of 32 bits wraps
        return lambda: (register() + add).astype(np.uint64)

    # -- instructions -------------------------------------------------------------------------------------------------

    def _compile(self, i: Instruction) -> tuple[int, Callable | None, Callable | int | tuple]:
        """Return its kind, its guard, and its action or the place that it goes to."""
        guard = self.source(("!" if i.negated else "") + i.guard, "pred") if i.guard else None
        name = i.opcode[0]
        if name == "bra":
            return _BRANCH, guard, self.entry.labels[i.operands[0]]
        if name == "brx":
            targets = np.array([self.entry.labels[label] for label in self.entry.tables[i.operands[1]]])
            return _INDEXED, guard, (self.source(i.operands[0], "u32"), targets)
        if name in ("ret", "exit"):
            return _EXIT, guard, 0
        if name in ("bar", "barrier") and i.opcode[1] in ("sync", "cta") and guard is None:
            return _BARRIER, None, 0
        if name in ("trap", "call"):
            return _FAIL, guard, i.text
        if name == "ld":
            return _OP, guard, self._load(i)
        if name == "st":
            return _OP, guard, self._store(i)
        if i.opcode == ("prefetch", "global", "L2"):
            return _OP, guard, self._prefetch(i)
        if name == "mov" and "{" in "".join(i.operands):
            return _OP, guard, moves.pack(self, i)
        if i.opcode[:3] == ("shfl", "sync", "bfly"):
            return _OP, guard, moves.shuffle(self, i)
        if name in ("mov", "cvta"):
            kind = i.opcode[-1] if i.opcode[-1] == "pred" else f"b{kinds.bits(i.opcode[-1])}"
            source, write = self.source(i.operands[1], kind), self.target(i.operands[0], kind)
            return _OP, guard, lambda: write(source())
        if name == "bar" or i.opcode[:2] in (("griddepcontrol", "wait"), ("griddepcontrol", "launch_dependents")):
            raise PTXError(i.text)
        op = operation(i.opcode)
        if len(op.sources) != len(i.operands) - 1 or "|" in i.operands[0]:
            raise PTXError(i.text)
        sources = [self.source(text, kind) for text, kind in zip(i.operands[1:], op.sources, strict=True)]
        write, compute = self.target(i.operands[0], op.result), op.compute
        if len(sources) == 1:
            one = sources[0]
            return _OP, guard, lambda: write(compute(one()))
        if len(sources) == 2:
            one, two = sources
            return _OP, guard, lambda: write(compute(one(), two()))
        return _OP, guard, lambda: write(compute(*[source() for source in sources]))

    def _access(self, i: Instruction) -> tuple[str, int, int]:
        """The space, the parts of a vector, and the bytes of each."""
        for part in i.opcode[1:-1]:  # the cache that is advised is nothing to the values
            if part not in _SPACES and not re.fullmatch(
                r"nc|v[248]|weak|c[agsv]|lu|wb|wt|L[12]::(evict|no_alloc|\d).*", part
            ):
                raise PTXError(i.text)
        space = next((_SPACES[part] for part in i.opcode if part in _SPACES), "")
        vector = next((int(part[1:]) for part in i.opcode if re.fullmatch(r"v[248]", part)), 1)
        return space, vector, kinds.bits(i.opcode[-1]) // 8

    def _load(self, i: Instruction) -> Callable:
        space, vector, size = self._access(i)
        kind, dtype = i.opcode[-1], kinds.dtype(i.opcode[-1])
        writes = [self.target(part.strip(), kind) for part in i.operands[0].strip("{} ").split(",")]
        address, by_cache = self._address(i.operands[1]), "nc" in i.opcode

        def load():
            at, memory = address(), self.memory
            if space == "param" and at.ndim == 0:  # the same for all threads
                words = memory.load(space, np.array([at]), vector * size, self.all[:1], False).view(dtype)[0]
                for k, write in enumerate(writes):
                    write(words[k])
                return
            active = self.active
            at = at[active] if at.ndim else np.full(active.size, at)
            words = memory.load(space, at, vector * size, active, by_cache).view(dtype)
            for k, write in enumerate(writes):
                value = np.zeros(self.count, dtype)
                value[active] = words[:, k]
                write(value)

        return load

    def _prefetch(self, i: Instruction) -> Callable:
        """A device ignores an address that is nobody's; here it is an error, as for a load."""
        address = self._address(i.operands[0])

        def prefetch():
            at, active = address(), self.active
            self.memory.load("global", at[active] if at.ndim else np.full(active.size, at), 1, active, False)

        return prefetch

    def _store(self, i: Instruction) -> Callable:
        space, vector, size = self._access(i)
        if space == "param":  # an argument of a call, which only a failed assertion makes
            return lambda: None
        kind = i.opcode[-1]
        sources = [self.source(part.strip(), kind) for part in i.operands[1].strip("{} ").split(",")]
        address = self._address(i.operands[0])

        def store():
            at, active, memory = address(), self.active, self.memory
            at = at[active] if at.ndim else np.full(active.size, at)
            words = np.empty((active.size, vector), kinds.dtype(kind))
            for k, source in enumerate(sources):
                value = source()
                words[:, k] = value[active] if np.ndim(value) else value
            memory.store(space, at, words.view(np.uint8).reshape(active.size, vector * size), active, self.at)

        return store

    # -- control ------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        counters = np.zeros(self.count, np.int64)
        with np.errstate(all="ignore"):
            try:
                while (at := int(counters.min())) < _DONE:
                    if at >= _WAITING:
                        self._pass_barrier(counters)
                        continue
                    here = counters == at
                    rest = counters[~here]
                    others = rest[rest < _DONE]
                    self.active = np.flatnonzero(here)
                    self.mask = here if others.size else None
                    self._stretch(counters, at, int(others.min()) if others.size else _DONE)
                for twice in self.memory.stored_twice():
                    self.at = twice
                    raise Report("a double store: another instruction stored there before, and nothing ever reads it")
            except Report as report:
                line = self.entry.code[self.at].text
                raise Report(f"{self.entry.name}: {report}; at instruction {self.at}: {line}") from None

    def _stretch(self, counters: np.ndarray, at: int, until: int) -> None:
        """Let the active threads run from ``at`` until they part, or meet those that wait at ``until``."""
        mask, active, steps = self.mask, self.active, 0
        while at < until and at < len(self.program):
            self.at = at
            if self.program[at] is None:
                self.program[at] = self._compile(self.entry.code[at])
            what, guard, does = self.program[at]
            steps += 1
            if steps > LIMIT:
                raise Report("no end after 10 million instructions")
            chosen = None if guard is None else guard()
            if chosen is not None:
                chosen = np.broadcast_to(chosen, (self.count,))[active]
                if chosen.all():
                    chosen = None
                elif not chosen.any():
                    at += 1
                    continue
            if what == _OP:
                if chosen is None:
                    does()
                else:
                    self.active = active[chosen]
                    self.mask = np.zeros(self.count, bool)
                    self.mask[self.active] = True
                    does()
                    self.mask, self.active = mask, active
                at += 1
                continue
            if what == _BRANCH and chosen is None:
                at = does
                continue
            if what == _FAIL:
                raise Report(f"a failed assertion ({does})")
            if what == _BARRIER:
                if mask is None:
                    self.threads.epoch[active] += 1
                    at += 1
                    continue
                target = at + 1 + _WAITING
            elif what == _INDEXED:
                index, targets = does
                target = targets[np.broadcast_to(index(), (self.count,))[active]]
            else:
                target = _DONE if what == _EXIT else does
            counters[active] = target if chosen is None else np.where(chosen, target, at + 1)
            self.executed += steps * active.size
            return
        counters[active] = at if at < len(self.program) else _DONE
        self.executed += steps * active.size

    def _pass_barrier(self, counters: np.ndarray) -> None:
        """All threads that have not ended wait at a barrier. Those of a block must wait at the same one."""
        waiting = np.flatnonzero(counters < _DONE)
        block = waiting // self.threads.per_block
        first = {}
        for b, place in zip(block.tolist(), counters[waiting].tolist(), strict=True):
            if first.setdefault(b, place) != place:
                raise Report("threads of a block wait at different barriers")
        counters[waiting] -= _WAITING
        self.threads.epoch[waiting] += 1
