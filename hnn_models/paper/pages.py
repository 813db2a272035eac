"""Everything that ``hnn tables`` writes from its rows: the record, its page, and the pages of what it says."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from .. import paths
from . import claims, record, sides
from .cells import Cell
from .record import Row

# By the end of the file's name, behind that of the record.
PAGES: Mapping[str, Callable[[Iterable[Row], Sequence[Cell]], str]] = {
    ".md": record.markdown,
    "-sides.md": sides.markdown,
    "-claims.md": claims.markdown,
}


def write(path: Path, rows: Iterable[Row], cells: Sequence[Cell]) -> None:
    """Write the record at ``path`` and its pages beside it, each whole or not at all."""
    rows = record.in_order(rows, cells)
    record.write(path, rows, cells)
    for end, page in PAGES.items():
        paths.write(path.with_name(path.stem + end), page(rows, cells))
