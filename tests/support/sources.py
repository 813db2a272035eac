"""The text files of the repository, and the environment variables that they read."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from support.paths import ROOT

_BESIDE = (".git", "build", "dist", "data", "runs")
_SHELL = re.compile(r"\$\{([A-Z]\w*):?-")
_CPP = re.compile(r"\bgetenv\(\"(\w+)\"\)")


def files(*suffixes: str) -> Iterator[Path]:
    """Every file with one of the suffixes; all files without any. What is built, or not ours, is left out."""
    for top in sorted(ROOT.iterdir()):
        if top.name in _BESIDE or top.name.startswith(".venv") or top.suffix == ".egg-info":
            continue
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and (not suffixes or path.suffix in suffixes):
                yield path


def _of_python(text: str) -> Iterator[str]:
    """Names in ``os.environ[...]``, ``os.environ.get(...)``, ``setdefault``, ``os.getenv`` and ``... in os.environ``.

    The name may be the variable of a loop over constants.
    """
    tree = ast.parse(text)
    loops: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.comprehension) and isinstance(node.iter, ast.Tuple | ast.List):
            loops.setdefault(ast.unparse(node.target), []).extend(node.iter.elts)
    for node in ast.walk(tree):
        keys: list[ast.expr] = []
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            keys = [node.slice] if isinstance(node.ctx, ast.Load) else []
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "os.environ.get", "os.environ.setdefault", "os.environ.pop", "os.getenv",
        ):  # fmt: skip
            keys = node.args[:1]
        elif isinstance(node, ast.Compare) and ast.unparse(node.comparators[0]) == "os.environ":
            keys = [node.left]
        for key in keys:
            for value in loops.get(ast.unparse(key), [key]):
                yield ast.literal_eval(value)


def read_variables(path: Path) -> set[str]:
    """The environment variables that the Python, C++ or shell file at ``path`` reads."""
    text = path.read_text()
    if path.suffix == ".py":
        return set(_of_python(text))
    return set((_SHELL if path.suffix == ".sh" or text.startswith("#!") else _CPP).findall(text))
