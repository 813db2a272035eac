"""Parse PTX: the text that nvcc and Triton make, as entries with their parameters, variables and instructions."""

import functools
import re
from typing import NamedTuple


class PTXError(Exception):
    """PTX that the emulator does not know."""


class Variable(NamedTuple):
    """A parameter, or a variable of a state space: its offset there, its size in bytes, and its first content."""

    offset: int
    size: int
    content: bytes = b""


class Instruction(NamedTuple):
    """An instruction.

    Attributes:
        guard: the predicate's name, or "".
        negated: True if it is done where the predicate is false.
        opcode: the opcode, split at its dots.
        operands: as they are written.
        text: all of it, for reports.
    """

    guard: str
    negated: bool
    opcode: tuple[str, ...]
    operands: tuple[str, ...]
    text: str


class Entry(NamedTuple):
    """A kernel.

    Attributes:
        name: its mangled name.
        parameters, parameter_bytes: where each parameter lies, and the size of all.
        registers: the type of every register, by its name or by its name without the number.
        shared, local: the variables of these state spaces.
        variables: those of the module.
        code, labels, tables: the instructions; the places of the labels among them; the labels of each indexed branch.
    """

    name: str
    parameters: dict[str, Variable]
    parameter_bytes: int
    registers: dict[str, str]
    shared: dict[str, Variable]
    local: dict[str, Variable]
    variables: dict[str, Variable]
    code: list[Instruction]
    labels: dict[str, int]
    tables: dict[str, list[str]]

    def register_type(self, name: str) -> str | None:
        """The type of a register, as in ``b32``; None if there is none of that name."""
        return self.registers.get(name) or self.registers.get(name.rstrip("0123456789") + "<")


_INSTRUCTION = re.compile(r"(?:@(!?)([%\w$@]+)\s+)?([a-z][\w.:]*)\s*(.*)", re.DOTALL)
_VARIABLE = re.compile(
    r"(?:\.(?:visible|extern|weak)\s+)*\.(global|const|shared|local|param)\s+(?:\.align\s+(\d+)\s+)?"
    r"\.([busf]\d+)\s+(?:\.ptr\s+)?(?:\.(?:global|shared)\s+)?(?:\.align\s+\d+\s+)?([\w$%]+)(\[\d*\])?(?:\s*=\s*\{?([^}]*)\}?)?"
)
_ENTRY = re.compile(r"\.entry\s+([\w$]+)\s*\(([^)]*)\)([^{]*)\{")


class _Space:
    """Variables, placed one behind the other."""

    def __init__(self):
        self.variables: dict[str, Variable] = {}
        self.bytes = 0

    def add(self, text: str) -> None:
        match = _VARIABLE.fullmatch(text)
        if not match:
            raise PTXError(f"a variable that the parser does not know: {text}")
        _, align, kind, name, count, values = match.groups()
        unit = int(kind[1:]) // 8
        size = unit * int(count[1:-1] or 0) if count else unit
        align = int(align or unit)
        self.bytes = -(-self.bytes // align) * align
        numbers = [int(value, 0) for value in (values or "").split(",") if value.strip()]
        content = b"".join((n & ((1 << 8 * unit) - 1)).to_bytes(unit, "little") for n in numbers)
        self.variables[name] = Variable(self.bytes, size, content)
        self.bytes += size


def _without_comments(text: str) -> str:
    text = re.sub(r"/\*.*?\*/", "", re.sub(r"//[^\n]*", "", text), flags=re.DOTALL)
    return re.sub(r"^\s*\.(?:loc|file|pragma)\b[^\n]*", "", text, flags=re.MULTILINE)


def _end_of_body(text: str, start: int) -> int:
    depth = 1
    for brace in re.compile(r"[{}]").finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if not depth:
            return brace.start()
    raise PTXError("a body that does not end")


def parse(text: str) -> dict[str, Entry]:
    """The entries of a module by their names."""
    text = _without_comments(text)
    bodies = {}
    outside, last = "", 0
    for match in _ENTRY.finditer(text):
        end = _end_of_body(text, match.end())
        bodies[match[1]] = (match[2], text[match.end() : end])
        outside += text[last : match.start()]
        last = end + 1
    outside = re.split(r"\.section\b", outside + text[last:])[0]
    module, shared = _Space(), _Space()
    for statement in filter(None, map(_tidy, outside.split(";"))):
        statement = statement[max(statement.find(" .global"), statement.find(" .const")) + 1 :]
        if re.search(r"\.(?:extern|visible|weak)?\s*\.shared\b", statement):
            shared.add(statement[statement.index(".shared") :])
        elif re.match(r"\.(global|const)\b", statement):
            module.add(statement)
    return {name: _entry(name, *body, module.variables, shared) for name, body in bodies.items()}


def _tidy(text: str) -> str:
    return " ".join(text.split())


class _Body:
    """Takes the statements of a body one after another. A register that is declared in a block is the block's own."""

    def __init__(self):
        self.registers: dict[str, str] = {}
        self.local, self.shared = _Space(), _Space()
        self.code: list[Instruction] = []
        self.labels: dict[str, int] = {}
        self.tables: dict[str, list[str]] = {}
        self.scopes: list[dict[str, str]] = []
        self.opened = 0
        self.label = ""

    def open(self) -> None:
        self.scopes.append({})
        self.opened += 1

    def close(self) -> None:
        self.scopes.pop()

    def rename(self, text: str) -> str:
        own = {name: new for scope in self.scopes for name, new in scope.items()}
        return re.sub(r"%?[A-Za-z_$][\w$]*", lambda m: own.get(m[0], m[0]), text) if own else text

    def statement(self, text: str) -> None:
        while match := re.match(r"([\w$]+)\s*:(?!:)\s*", text):
            self.label = match[1]
            self.labels[self.label] = len(self.code)
            text = text[match.end() :]
        if not text:
            return
        if text.startswith(".reg"):
            kind, names = re.fullmatch(r"\.reg\s+\.(\w+)\s+(.*)", text).groups()
            for name in names.split(","):
                self._register(kind, name.strip())
        elif text.startswith(".branchtargets"):
            self.tables[self.label] = [name.strip() for name in text[len(".branchtargets") :].split(",")]
        elif text.startswith(".local"):
            self.local.add(text)
        elif text.startswith(".shared"):
            self.shared.add(text)
        elif text.startswith("."):
            pass  # .param of a call, .callprototype
        else:
            self.code.append(_instruction(self.rename(text)))

    def _register(self, kind: str, name: str) -> None:
        several = re.fullmatch(r"([%\w$]+)<\d+>", name)
        if several:
            self.registers[several[1] + "<"] = kind
        elif self.scopes:
            new = f"%{name.lstrip('%')}@{self.opened}@"
            self.scopes[-1][name] = new
            self.registers[new] = kind
        else:
            self.registers[name] = kind


def _entry(name: str, parameters: str, text: str, variables: dict[str, Variable], shared: _Space) -> Entry:
    given = _Space()
    for one in filter(None, map(_tidy, parameters.split(","))):
        given.add(one)
    body = _Body()
    statement = ""
    for part in re.split(r"([;{}])", text):
        if part == ";":
            body.statement(_tidy(statement))
            statement = ""
        elif part == "{" and not _tidy(re.sub(r"[\w$]+\s*:", "", statement)):
            body.statement(_tidy(statement))
            statement = ""
            body.open()
        elif part == "}" and not _tidy(statement):
            body.close()
        else:
            statement += part
    body.statement(_tidy(statement))
    return Entry(
        name, given.variables, given.bytes, body.registers, shared.variables | body.shared.variables,
        body.local.variables, variables, body.code, body.labels, body.tables,
    )  # fmt: skip


def _instruction(text: str) -> Instruction:
    match = _INSTRUCTION.fullmatch(text)
    if not match:
        raise PTXError(f"an instruction that the parser does not know: {text}")
    negated, guard, opcode, rest = match.groups()
    return Instruction(guard or "", bool(negated), tuple(opcode.split(".")), _operands(rest), text)


@functools.lru_cache(65536)
def _operands(text: str) -> tuple[str, ...]:
    """Split at the commas that are in no bracket."""
    found, depth, last = [], 0, 0
    for at, letter in enumerate(text):
        depth += (letter in "[{(") - (letter in ")}]")
        if letter == "," and depth == 0:
            found.append(text[last:at].strip())
            last = at + 1
    if text[last:].strip():
        found.append(text[last:].strip())
    return tuple(found)
