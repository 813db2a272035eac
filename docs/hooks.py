"""Steps of `mkdocs build`: pages that lie outside of docs/, links between the two, and notebooks of pages."""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from notebooks import is_program, notebook

ROOT = Path(__file__).resolve().parents[1]
_OUTSIDE = ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", *ROOT.glob("benchmarks/results/*"))
# The pages that have the sections of README.md.
_README = {"": "index.md", "#install": "install.md", "#measured": "benchmarks.md"}
# The sentence that leads to a section of README.md on GitHub is replaced by that section.
_TAKEN = re.compile(r"The section of [^\n]*\n\n<!-- README\.md#(\w+) -->")
_FILE_NAME = re.compile(r"[\w/-]+\.md")
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages of single libraries to the navigation, under their own headings."""
    section = next(entry for entry in config.nav or () if "Coming from other libraries" in entry)
    section["Coming from other libraries"][1:1] = sorted(path.name for path in (ROOT / "docs").glob("from-*.md"))
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages outside of docs/, the records beside them, by their paths from the root, and the notebooks."""
    for name in _OUTSIDE:
        path = ROOT / name
        if path.suffix in (".md", ".csv"):
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    for file in list(files.documentation_pages()):
        if is_program(file.content_string):
            name = file.src_uri.replace(".md", ".ipynb")
            files.append(File.generated(config, name, content=notebook(file.content_string)))
    return files


def _readme(section: str) -> str:
    """The text of a section of README.md, without its heading."""
    text = (ROOT / "README.md").read_text()
    found = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", text, re.IGNORECASE | re.MULTILINE | re.DOTALL)
    if found is None:
        raise PluginError(f"README.md has no section {section}")
    return found[1]


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put in what a page takes from README.md, link to its notebook, and turn the links into those of the site."""
    name = page.file.src_uri
    folder = posixpath.dirname(name if (ROOT / name).exists() else f"docs/{name}")
    here = posixpath.dirname(name)

    def moved(text: str, folder: str) -> str:
        """Turn links from file to file in the repository into links of the site, where docs/ is the root.

        A link to a file that is no page, such as a source, becomes its text. A link whose text is the name of a page's
        file gets the page's title, as the navigation has it.
        """

        def one(match: re.Match[str]) -> str:
            text, target, anchor = match.groups(default="")
            source = posixpath.normpath(posixpath.join(folder, target))
            if not (ROOT / source).exists():
                return match[0]  # which mkdocs reports
            place = source.removeprefix("docs/")
            if source == "README.md":
                place, anchor = _README[anchor], ""
            file = files.get_file_from_path(place)
            if file is None:
                return text
            if file.page is not None and _FILE_NAME.fullmatch(text):
                text = file.page.title
            return f"[{text}]({posixpath.relpath(place, here or '.')}{anchor})"

        return _LINK.sub(one, text)

    markdown = moved(markdown, folder)
    if is_program(markdown):
        title, _, rest = markdown.partition("\n")
        markdown = f"{title}\n\n[This page as a notebook]({posixpath.basename(name).replace('.md', '.ipynb')})\n{rest}"
    return _TAKEN.sub(lambda match: moved(_readme(match[1]), ""), markdown)
