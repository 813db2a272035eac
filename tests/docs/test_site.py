"""The site builds without a warning, its reference has every public name, and its notebooks run."""

import importlib
import json
import re

import pytest

from docs.notebooks import is_program, notebook
from support.pages import PAGES, anchors, prose
from support.paths import ROOT, environment

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


def test_a_page_takes_a_section_that_the_readme_has():
    assert "install" in anchors(ROOT / "README.md")
    assert "<!-- README.md#install -->" in (ROOT / "docs" / "install.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tables_are_whole(page):
    """No row stands apart from its head, as behind an empty line, and none in a list, where the site has no table."""
    text = prose(page)
    assert not re.search(r"(?:^|\n)\n\|.*\n(?!\|[ :|-]+\|\n)", text)
    assert not re.search(r"^ +\|", text, re.MULTILINE)


def test_the_site_builds_without_a_warning(tmp_path, forks):
    pytest.importorskip("mkdocs", reason="the site needs the extra 'docs'")
    arguments = ["build", "--strict", "--quiet", "--config-file", str(ROOT / "mkdocs.yml"), "--site-dir", str(tmp_path)]
    done = forks.run("mkdocs", ROOT, arguments, text="from mkdocs.__main__ import cli\ncli()")
    assert done.returncode == 0, done.stdout + done.stderr
    reference = "".join(path.read_text() for path in tmp_path.glob("reference-*.html"))
    public = {f"{package}.{name}" for package in PACKAGES for name in importlib.import_module(package).__all__}
    assert public - ELSEWHERE <= set(re.findall(r'<h3 id="([\w.]+)"', reference))
    assert not re.search(r":(func|class|mod|data|meth):", reference), "a role is shown as it is"
    assert "no C++ compiler" in (tmp_path / "install.html").read_text()
    assert json.loads((tmp_path / "tutorial.ipynb").read_text()) == json.loads(
        notebook((ROOT / "docs" / "tutorial.md").read_text())
    )


@pytest.mark.parametrize("page", PROGRAMS, ids=lambda page: page.stem)
def test_notebooks_run(page, tmp_path):
    """As they are opened: the file, in a kernel of Jupyter."""
    nbclient = pytest.importorskip("nbclient", reason="notebooks need the extra 'test'")
    pytest.importorskip("matplotlib", reason="plots need the extra 'models'")
    import nbformat

    path = tmp_path / f"{page.stem}.ipynb"
    path.write_text(notebook(page.read_text()))
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    there = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(book, startup_timeout=300, resources=there).execute(env=environment())
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert len(code) > 3
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    outputs = [output for cell in code for output in cell.outputs]
    assert not any("Warning" in output.get("text", "") for output in outputs)
    images = re.findall(r"!\[[^\]]*\]\((.*?)\)", page.read_text())
    assert all((tmp_path / image).exists() for image in images), "an image is not what a cell writes"


def test_a_page_becomes_cells_of_text_and_code():
    cells = json.loads(notebook("# A\n\n<!-- one program -->\n\nText.\n\n```python\nx = 1\n```\n\nMore.\n"))["cells"]
    assert [(cell["cell_type"], cell["source"]) for cell in cells] == [
        ("markdown", "# A\n\nText."), ("code", "x = 1"), ("markdown", "More."),
    ]  # fmt: skip
    [cell] = json.loads(notebook("![a](a.png) See [here](page.md#a) and [there](https://there.org)."))["cells"]
    assert cell["source"] == "![a](a.png) See here and [there](https://there.org)."
    assert {page.stem for page in PROGRAMS} == {"tutorial", "your-own-loop"}
