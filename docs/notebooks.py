"""Notebooks from pages whose code is one program, which the comment `<!-- one program -->` says."""

import json
import re

_FENCED = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:)[^)]*\)")
_MARK = re.compile(r"^<!-- one program -->\n+", re.MULTILINE)


def is_program(markdown: str) -> bool:
    """Return True if the code blocks of a page are one program."""
    return _MARK.search(markdown) is not None


def notebook(markdown: str) -> str:
    """Return the notebook of a page: a cell of code for each block, and of text for what stands between them.

    A notebook is moved away from the pages, so links to them become their text. An image is a file that a cell writes.
    """
    cells = []
    for number, text in enumerate(_FENCED.split(_MARK.sub("", markdown))):
        code = number % 2 == 1
        cell = {"cell_type": "code" if code else "markdown", "id": f"cell-{number}", "metadata": {}}
        cell["source"] = (text if code else _LINK.sub(r"\1", text)).strip("\n")
        if code:
            cell |= {"execution_count": None, "outputs": []}
        if cell["source"]:
            cells.append(cell)
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}, indent=1)
