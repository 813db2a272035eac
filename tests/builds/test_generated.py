"""The files that `make generate` writes: they are those of the lists, and can be written where none is there."""

import ast
import re
import shutil
import subprocess
import sys

import pytest

from hnn_kernels import SURROGATES, _layer
from hnn_kernels._generate.files import FILES
from support.paths import ROOT


def bare(path: str, text: str):
    """A source without what a formatter may change."""
    return ast.dump(ast.parse(text)) if path.endswith(".py") else re.sub(r'[\s"\\]', "", text)


@pytest.mark.parametrize("path", FILES)
def test_files_are_those_of_the_lists(path):
    expected, found = FILES[path](_layer, SURROGATES), (ROOT / path).read_text()
    assert found.splitlines()[0] == expected.splitlines()[0]
    assert re.search(r"Generated from hnn_kernels/\w+\.py by `make generate`", expected.splitlines()[0])
    assert bare(path, found) == bare(path, expected), "say `make generate`"


def test_they_can_be_written_where_they_are_broken_or_gone(tmp_path):
    shutil.copytree(
        ROOT / "hnn_kernels", tmp_path / "hnn_kernels", ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    (tmp_path / "csrc").mkdir()
    (tmp_path / "hnn_kernels/_triton/surrogates.py").write_text("broken(")
    command = [sys.executable, "-P", tmp_path / "hnn_kernels/_generate/__main__.py"]
    subprocess.run(command, cwd=tmp_path, check=True)
    for path, write in FILES.items():
        assert (tmp_path / path).read_text() == write(_layer, SURROGATES)
