"""Docstrings for the site: roles such as ``:func:`name``` become links, and ``::`` in front of code a colon."""

import re
from functools import cache
from pathlib import Path

import griffe

_ROLE = re.compile(r":\w+:`~?([\w.]+)`")


@cache
def _documented() -> dict[str, str]:
    """The names that the pages of the reference have, by their last part and in full."""
    pages = sorted(Path(__file__).parent.glob("reference-*.md"))
    names = [name for page in pages for name in re.findall(r"^::: ([\w.]+)", page.read_text(), re.MULTILINE)]
    return {part: name for name in reversed(names) for part in (name.rpartition(".")[2], name)}


def _link(match: re.Match[str]) -> str:
    name = match[1]
    target = _documented().get(name)
    return f"[`{name}`][{target}]" if target else f"`{name}`"


class Roles(griffe.Extension):
    """Rewrites each docstring when its object is found."""

    def on_object(self, *, obj: griffe.Object, **_kwargs: object) -> None:
        if obj.docstring:
            text = _ROLE.sub(_link, obj.docstring.value)
            obj.docstring.value = re.sub(r"::(?=\n\n)", ":", text)
