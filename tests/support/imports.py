"""Which module of a package imports which, read from the source without running it.

A test of a package names its layers from the bottom to the top, and asks for :func:`problems`::

    LAYERS = [["pack.numbers"], ["pack.network"], ["pack", "pack.__main__"]]

    def test_imports_go_down():
        assert not problems("pack", LAYERS)
"""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

from support.paths import ROOT

Graph = dict[str, set[str]]


def modules(package: str, root: Path = ROOT) -> dict[str, Path]:
    """The files of ``package`` under ``root`` by module name; a package's own module is its ``__init__.py``."""
    found = {}
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _statements(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import, in functions too, except those for type checkers alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for other in node.orelse:
                yield from _statements(ast.Module([other], []))
        else:
            yield from _statements(node)


def imports(module: str, path: Path) -> Iterator[tuple[str, str | None]]:
    """Pairs of an imported module and a name taken from it, which may be a module; None where nothing is taken."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in _statements(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
            continue
        source = node.module or ""
        if node.level:
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            source = ".".join([*parents, *filter(None, [source])])
        yield from ((source, alias.name) for alias in node.names)


def graph(package: str, root: Path = ROOT) -> Graph:
    """The modules of ``package`` that each of its modules imports.

    ``from package import name`` is an import of ``package.name`` where that is a module, and else of ``package``.
    """
    files = modules(package, root)
    found: Graph = {}
    for module, path in files.items():
        pairs = ((f"{source}.{name}", source) for source, name in imports(module, path))
        targets = (whole if whole in files else source for whole, source in pairs)
        found[module] = {target for target in targets if target in files and target != module}
    return found


def circles(edges: Graph) -> list[list[str]]:
    """Groups of modules each of which imports, directly or through others, all of its group."""

    def reached(start: str) -> set[str]:
        seen, ahead = set(), [start]
        while ahead:
            new = edges[ahead.pop()] - seen
            seen |= new
            ahead += new
        return seen

    reach = {module: reached(module) for module in edges}
    groups = {tuple(sorted(m for m in reach[one] if one in reach[m])) for one in edges if one in reach[one]}
    return [list(group) for group in sorted(groups)]


def _level(module: str, layers: Sequence[Sequence[str]]) -> int | None:
    """The number of the layer that names ``module``, or the nearest package around it."""
    levels = {name: level for level, names in enumerate(layers) for name in names}
    if module in levels:
        return levels[module]
    while module:
        if f"{module}.*" in levels:
            return levels[f"{module}.*"]
        module = module.rpartition(".")[0]
    return None


def problems(package: str, layers: Sequence[Sequence[str]], root: Path = ROOT) -> list[str]:
    """Sentences about circles, imports that go up, modules that no layer names, and names that are no module.

    ``layers`` go from the bottom to the top. A module may import from its own layer and from those below it. An entry
    is a module, or ``package.*`` for a package and everything in it that has no entry of its own.
    """
    edges = graph(package, root)
    said = [f"these modules import each other: {', '.join(group)}" for group in circles(edges)]
    named = {name.removesuffix(".*") for names in layers for name in names}
    said += [f"no such module: {name}" for name in sorted(named - edges.keys())]
    levels = {module: _level(module, layers) for module in edges}
    said += [f"{module} is in no layer" for module, level in levels.items() if level is None]
    for module, targets in edges.items():
        for target in sorted(targets):
            lower, upper = levels[module], levels[target]
            if lower is not None and upper is not None and lower < upper:
                said.append(f"{module} imports {target}, which is above it")
    return said
