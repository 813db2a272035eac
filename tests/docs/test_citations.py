"""Citations in pages, docstrings and comments are true: files, headings, names."""

import ast
import fnmatch
import functools
import importlib
import re
from pathlib import Path

import pytest

import hnn_kernels
from support.imports import modules
from support.pages import PAGES, anchors, comments, docstrings, links, prose, sources, spans
from support.paths import ROOT, TESTS
from support.sources import files

# Files of a run, of a data set, or of another program, and names of other libraries.
ELSEWHERE = {
    "best.ckpt", "last.ckpt", "metrics.csv", "artificial/", "src/networks/mlp_networks.py", "src/utils.py",
    "ann4_coding_snn4.csv",
    "bench_gpu.csv", "gpu_host.csv", "gpu_host.json",
    "functional.reset_net", "functional.set_step_mode", "surrogate.atan", "utils.reset",
}  # fmt: skip
COMPILED = {f"hnn_kernels.{name}" for name in ("_cpu", "_cuda13", "_shim", "_inspect")}
SUFFIXES = "py|md|h|inl|cuh|cpp|cu|sh|toml|csv|json|yaml|yml"
PATH = re.compile(
    rf"(?:[\w.*-]+/)*[\w*-][\w.*-]*\.(?:{SUFFIXES})|\.?[\w*-]+(?:/[\w.*-]+)*/"
    r"|(?:csrc|docs|tests|benchmarks)(?:/[\w.*-]+)+"
)


@functools.cache
def repository() -> list[str]:
    """Every file and folder, a folder with a slash at its end; each with a slash before it."""
    paths = [path.relative_to(ROOT) for path in files()]
    folders = {folder for path in paths for folder in path.parents}
    return [f"/{path}" for path in paths] + [f"/{folder}/" for folder in folders]


def exists(cited: str) -> bool:
    """True for a path from the root or the end of one; ``*`` is any part of a name."""
    cited = cited.removeprefix("../")
    return any(fnmatch.fnmatch(path.rstrip("/"), f"*/{cited.rstrip('/')}") for path in repository())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in links(page):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_cite_files_that_exist(page):
    cited = {span for span in spans(prose(page)) if PATH.fullmatch(span)}
    assert not {path for path in cited - ELSEWHERE if not exists(path)}


def test_sources_cite_files_that_exist():
    wrong = {}
    for source in sources():
        texts = [text for _, text in docstrings(source)] if source.suffix == ".py" else []
        texts.append(comments(source))
        cited = {m[0] for text in texts for m in re.finditer(rf"(?<![\w./<{{-])(?:{PATH.pattern})(?![\w/<{{*])", text)}
        missing = {path for path in cited - ELSEWHERE if not exists(path)}
        if missing:
            wrong[str(source.relative_to(ROOT))] = sorted(missing)
    assert not wrong


def test_headings_that_are_quoted_exist():
    """As in: "Numbers" in ARCHITECTURE.md."""
    quoted = [
        (source, m)
        for source in [*sources(), *PAGES]
        for m in re.finditer(r"\"([^\"\n]+)\" in (\w+\.md|docs/\w+\.md)", source.read_text())
    ]
    assert quoted
    for source, m in quoted:
        assert re.sub(r"\W+", "-", m[1].lower()) in anchors(ROOT / m[2]), f"{source.name}: {m[0]}"


def test_the_version_to_cite_is_the_version_of_the_package():
    version = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert version
    assert version[1] == hnn_kernels.__version__


@functools.cache
def ours() -> dict[str, Path]:
    packages = ((name, ROOT) for name in ("hnn_kernels", "hnn_models", "benchmarks"))
    return dict(item for where in (*packages, ("support", TESTS)) for item in modules(*where).items())


@functools.cache
def defined(path: Path) -> dict[str, set[str]]:
    """The names that a module defines or imports, each with those inside it, if it is a class."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            inside = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
            inside |= {ast.unparse(n.target) for n in node.body if isinstance(n, ast.AnnAssign)}
            inside |= {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}
            found.setdefault(node.name, set()).update(inside)
        elif isinstance(node, ast.FunctionDef):
            found.setdefault(node.name, set())
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.setdefault(node.id, set())
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                found.setdefault(alias.asname or alias.name.split(".")[0], set())
    return found


def resolves(name: str, path: Path) -> bool:
    """True if ``name``, in a docstring of the module at ``path``, is a module or something in one, of ours or not."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module, inside = ".".join(parts[:length]), parts[length:]
        if module in ours():
            names = defined(ours()[module])
            return not inside or inside[0] in names
    names = defined(path)
    if len(parts) == 1:
        return name in names or any(name in inside for inside in names.values())
    if parts[0] in names:
        return parts[1] in names[parts[0]] or not names[parts[0]]
    try:
        return hasattr(importlib.import_module(".".join(parts[:-1])), parts[-1])
    except ImportError:
        return False


def test_names_in_docstrings_are_defined():
    wrong = []
    for source in files(".py"):
        for _, text in docstrings(source):
            for role, name in re.findall(r":(\w+):`~?([\w.]+)`", text):
                if not resolves(name, source):
                    wrong.append(f"{source.relative_to(ROOT)}: :{role}:`{name}`")
    assert not wrong


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "CHANGELOG.md"], ids=lambda p: str(p.relative_to(ROOT)))
def test_names_in_pages_are_defined(page):
    """Dotted names; all but those that begin with a class, or with a name of torch. The changelog has what is gone."""
    named = {span.removesuffix("()") for span in spans(prose(page)) if re.fullmatch(r"\w+(\.\w+)+(\(\))?", span)}
    for name in {n for n in named if not PATH.fullmatch(n)} - ELSEWHERE:
        first, *rest = name.split(".")
        if name in COMPILED or first in ("torch", "nn") or first[0].isupper():
            continue
        places = [module for module in ours() if f".{module}".endswith(f".{first}")]
        assert any(resolves(".".join([module, *rest]), ROOT / "setup.py") for module in places), name
