"""The order of the modules of ``hnn_kernels``, and which of them are private."""

import pytest

from support.imports import circles, graph, imports, modules, problems
from support.paths import TESTS

# From the bottom to the top: numbers, lists and checks, the operators, the reference, the backends that implement them,
# the choice of a backend, the functions, the modules, the package.
LAYERS = [
    [
        "version",
        "surrogates",
        "state",
        "_checks",
        "_layer",
        "_sources",
        "_architectures",
        "_compiler",
        "memory",
        "graphs",
    ],
    ["_generate.expressions"],
    ["_ops.*"],
    ["_noise", "filters"],
    ["reference"],
    ["_triton.*", "_extensions"],
    ["_dispatch", "_direct"],
    ["_recurrence", "_layer_steps"],
    ["functional", "coding", "products", "_define.*"],
    ["nn.*", "neurons"],
    ["_convert.*"],
    ["_generate.*", "__main__", ""],
]
PUBLIC = {
    "functional", "coding", "products", "filters", "surrogates", "state", "reference", "memory", "graphs", "neurons",
    "nn", "version", "__main__",
}  # fmt: skip


def test_imports_go_down_and_in_no_circle():
    layers = [[f"hnn_kernels.{name}".rstrip(".") for name in names] for names in LAYERS]
    assert not problems("hnn_kernels", layers)


def test_modules_that_are_not_public_have_an_underscore():
    names = {module.split(".")[1] for module in modules("hnn_kernels") if "." in module}
    assert not {name for name in names if not name.startswith("_")} - PUBLIC


def test_kernels_do_not_know_what_is_built_on_them():
    found = {source for module, path in modules("hnn_kernels").items() for source, _ in imports(module, path)}
    assert not {source for source in found if source.split(".")[0] in ("hnn_models", "benchmarks", "hnn_benchmarks")}


def test_networks_use_only_the_public_names_of_hnn_kernels():
    found = [pair for module, path in modules("hnn_models").items() for pair in imports(module, path)]
    taken = [(source, name) for source, name in found if source.split(".")[0] == "hnn_kernels"]
    assert ("hnn_kernels", None) in taken
    assert all(source in ("hnn_kernels", "hnn_kernels.nn") for source, _ in taken), taken
    names = [name for _, name in taken if name]
    assert all(not name.startswith("_") or name.startswith("__") for name in names), names


def test_tests_import_no_test():
    pairs = [(path, source) for path in TESTS.rglob("*.py") for source, _ in imports(path.stem, path)]
    assert len(pairs) > 100
    assert not [pair for pair in pairs if pair[1].split(".")[-1].startswith(("test_", "conftest"))]


@pytest.fixture
def pack(tmp_path):
    """A function that writes a package ``pack`` of the given files."""

    def write(**files):
        (tmp_path / "pack" / "sub").mkdir(parents=True)
        for name in ("__init__", "sub/__init__", "sub/a", "b", "c"):
            (tmp_path / "pack" / f"{name}.py").write_text(files.get(name.replace("/", "_"), ""))
        return tmp_path

    return write


def test_every_way_to_import_is_seen(pack):
    root = pack(
        __init__="from . import b\nfrom .sub import a",
        sub_a="import pack.b\nfrom ..c import anything",
        b="def f():\n    from pack import c",
        c="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import b\nelse:\n    import os",
    )
    assert graph("pack", root) == {
        "pack": {"pack.b", "pack.sub.a"}, "pack.sub": set(), "pack.sub.a": {"pack.b", "pack.c"}, "pack.b": {"pack.c"},
        "pack.c": set(),
    }  # fmt: skip


def test_a_circle_through_several_modules_is_found(pack):
    root = pack(sub_a="from .. import b", b="from . import c", c="def f():\n    from .sub import a")
    assert circles(graph("pack", root)) == [["pack.b", "pack.c", "pack.sub.a"]]


def test_imports_that_go_up_and_modules_without_a_place_are_found(pack):
    root = pack(b="from .sub import a", sub_a="from .. import c")
    layers = [["pack.b", "pack"], ["pack.sub.*"], ["pack.d"]]
    assert problems("pack", layers, root) == [
        "no such module: pack.d",
        "pack.c is in no layer",
        "pack.b imports pack.sub.a, which is above it",
    ]
    assert not problems("pack", [["pack", "pack.c"], ["pack.sub.*"], ["pack.b"]], root)
