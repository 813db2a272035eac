"""The rooms of ``benchmarks/`` and the packages below it: imports go down only."""

import pytest

from support.imports import graph, imports, modules, problems

# From the bottom to the top. Rooms of one row do not import each other.
ROOMS = [["core"], ["providers", "records"], ["studies", "suite"], ["gpu"]]
TOP = ["benchmarks", "benchmarks.__main__"]


def test_imports_go_down_without_a_circle():
    layers = [[f"benchmarks.{room}.*" for room in rooms] for rooms in ROOMS]
    assert problems("benchmarks", [*layers, TOP]) == []


def test_rooms_of_one_row_do_not_import_each_other():
    row = {room: number for number, rooms in enumerate(ROOMS) for room in rooms}
    for module, targets in graph("benchmarks").items():
        room, *others = ([*name.split("."), ""][1] for name in (module, *targets))
        assert not [other for other in others if other != room and room in row and row.get(other) == row[room]], module


@pytest.mark.parametrize("package", ["hnn_kernels", "hnn_models"])
def test_no_package_imports_the_suite(package):
    for module, path in modules(package).items():
        sources = {source.partition(".")[0] for source, _ in imports(module, path)}
        assert not sources & {"benchmarks", "hnn_benchmarks"}, module
