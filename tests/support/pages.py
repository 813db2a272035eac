"""The pages of the documentation: their headings, links, code blocks, and code within a line."""

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from support.paths import ROOT
from support.sources import files

PAGES = [
    *(ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / ".github").rglob("*.md")),
]
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?: {4}.*\n|\n)+(?=\S|\Z)")


class Block(NamedTuple):
    """A code block of a page: the line it begins in, the language of a fenced one, and the text."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Fenced blocks, and those that four spaces make."""
    text = page.read_text()
    found = [(m.start(), m[1], m[2]) for m in _FENCED.finditer(text)]
    rest = _FENCED.sub(lambda m: re.sub(r"[^\n]", "-", m[0]), text)
    found += [(m.start(), "", textwrap.dedent(m[0])) for m in _INDENTED.finditer(rest) if m[0].strip()]
    return [Block(page, text.count("\n", 0, start) + 1, *rest) for start, *rest in sorted(found)]


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return _INDENTED.sub("\n", _FENCED.sub("", page.read_text()))


def spans(text: str) -> list[str]:
    """Code within a line: what single or double backticks enclose, except in roles such as ``:func:``."""
    return [m[2] for m in re.finditer(r"(?<![`:])(`{1,2})([^`\n]+)\1(?!`)", text)]


def links(page: Path) -> list[str]:
    """The targets of the page's links."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def anchors(page: Path) -> set[str]:
    """The headings as GitHub names them in links."""
    headings = re.findall(r"^#+ +(.*)$", _FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def docstrings(path: Path) -> Iterator[tuple[ast.AST, str]]:
    """Every docstring of a Python file, with the module, class or function that it belongs to."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield node, text


def comments(path: Path) -> str:
    """The comments of a Python, shell or C++ file, one line each."""
    mark = r"#(?!\s*(?:include|define|if|ifdef|ifndef|else|elif|endif|undef|error|pragma)\b)|//"
    return "\n".join(m[1] for m in re.finditer(rf"(?:^|\s)(?:{mark})\s?(.*)$", path.read_text(), re.MULTILINE))


def sources() -> list[Path]:
    """The files whose comments and docstrings cite others."""
    return list(files(".py", ".h", ".cuh", ".cpp", ".cu", ".sh", ".toml"))
