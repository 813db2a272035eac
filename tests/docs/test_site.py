"""The site builds without a warning, its reference has every public name, and its notebooks run."""

import importlib
import json
import re

import pytest

from docs.notebooks import is_program, notebook
from support.pages import PAGES, anchors
from support.paths import ROOT

PROGRAMS = [page for page in PAGES if is_program(page.read_text())]
PACKAGES = ("hnn_kernels", "hnn_kernels.nn", "hnn_kernels.neurons", "hnn_kernels.nir", "hnn_models")
# A version, modules that are packages of this list, and a name that stands with its package.
ELSEWHERE = {"hnn_kernels.__version__", *PACKAGES, "hnn_kernels.nir.EachStep"}


def documented() -> list[str]:
    pages = sorted((ROOT / "docs").glob("reference-*.md"))
    return [name for page in pages for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)]


@pytest.mark.parametrize("package", PACKAGES)
def test_the_reference_has_every_public_name(package):
    public = {f"{package}.{name}" for name in importlib.import_module(package).__all__} - ELSEWHERE
    listed = [name for name in documented() if name.rpartition(".")[0] == package]
    assert len(listed) == len(set(listed)), "a name stands twice"
    assert set(listed) == public


def test_every_page_is_in_the_navigation():
    listed = re.findall(r": ([\w./-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert len(listed) == len(set(listed))
    by_the_hook = {path.name for path in (ROOT / "docs").glob("from-*.md")}
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - by_the_hook <= set(listed)


@pytest.mark.parametrize("section", ["install", "measured"])
def test_pages_take_sections_that_the_readme_has(section):
    assert section in anchors(ROOT / "README.md")
    assert any(f"<!-- README.md#{section} -->" in page.read_text() for page in PAGES)


def test_the_site_builds_without_a_warning(tmp_path, forks):
    pytest.importorskip("mkdocs", reason="the site needs the extra 'docs'")
    arguments = ["build", "--strict", "--quiet", "--config-file", str(ROOT / "mkdocs.yml"), "--site-dir", str(tmp_path)]
    done = forks.run("mkdocs", ROOT, arguments, text="from mkdocs.__main__ import cli\ncli()")
    assert done.returncode == 0, done.stdout + done.stderr
    lif = (tmp_path / "reference-kernels.html").read_text()
    assert 'id="hnn_kernels.lif"' in lif
    assert not re.search(r":(func|class|mod|data|meth):", lif), "a role is shown as it is"
    assert "no C++ compiler" in (tmp_path / "install.html").read_text()
    assert json.loads((tmp_path / "tutorial.ipynb").read_text()) == json.loads(
        notebook((ROOT / "docs" / "tutorial.md").read_text())
    )


@pytest.mark.parametrize("page", PROGRAMS, ids=lambda page: page.stem)
def test_notebooks_run(page, tmp_path, forks):
    """Their cells of code, one after the other in one process."""
    pytest.importorskip("matplotlib", reason="plots need the extra 'models'")
    cells = json.loads(notebook(page.read_text()))["cells"]
    code = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
    assert len(code) > 3
    done = forks.run(page, tmp_path, text="\n".join(code))
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr


def test_a_page_becomes_cells_of_text_and_code():
    cells = json.loads(notebook("# A\n\n<!-- one program -->\n\nText.\n\n```python\nx = 1\n```\n\nMore.\n"))["cells"]
    assert [(cell["cell_type"], cell["source"]) for cell in cells] == [
        ("markdown", "# A\n\nText."), ("code", "x = 1"), ("markdown", "More."),
    ]  # fmt: skip
    assert {page.stem for page in PROGRAMS} == {"tutorial", "your-own-loop"}
