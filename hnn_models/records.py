"""The CSV file of a record, whatever its rows are: one line per row, behind a header."""

import csv
import io
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from . import paths

_Columns = TypeVar("_Columns", bound=tuple)
_Row = TypeVar("_Row")


class RecordError(ValueError):
    """A file that is not the record it should be, or a damaged one."""


def words(path: Path, what: str, *columns: tuple[str, ...]) -> tuple[tuple[str, ...], list[list[str]]]:
    """The words of the CSV file of a record: its header, one of ``columns``, and its lines; none if there is no file.

    Raises:
        RecordError: the file is not a record of ``what``.
    """
    if not path.exists():
        return columns[0], []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *lines = [*csv.reader(file, strict=True)] or [[]]
    except (csv.Error, UnicodeDecodeError) as error:
        raise RecordError(f"{path} is not a record of {what}: {error}") from error
    if tuple(header) not in columns:
        raise RecordError(f"{path} is not a record of {what}: its columns are {', '.join(header) or 'none'}")
    return tuple(header), lines


def parsed(
    path: Path,
    lines: Iterable[Sequence[str]],
    row_of: Callable[[Sequence[str]], _Row],
    key: Callable[[_Row], Hashable] | None = None,
    subject: str = "line",
) -> list[_Row]:
    """The rows in the ``lines`` of the file ``path``, which are those behind its header.

    Args:
        path: the file, for messages.
        lines: their words.
        row_of: makes a row of a line's words; a ValueError says why it cannot.
        key: of a row, what no two rows share; None if rows may be alike.
        subject: what has such a key, for the message about a second row.

    Raises:
        RecordError: a line is damaged, or its key is that of an earlier one; the message names the line.
    """
    rows: list[_Row] = []
    keys = set()
    for number, line in enumerate(lines, start=2):
        try:
            row = row_of(line)
            if key is not None:
                if key(row) in keys:
                    raise ValueError(f"the {subject} has a row already")
                keys.add(key(row))
        except ValueError as error:
            raise RecordError(f"{path} is damaged in line {number}: {error}") from error
        rows.append(row)
    return rows


def typed(kind: type[_Columns], words: Sequence[str]) -> _Columns:
    """The row of ``kind``, a named tuple whose annotations are the types of its columns, in a line of a file.

    Raises:
        ValueError: the line has another number of columns, or a word that is not a number.
    """
    columns = kind.__annotations__
    if len(words) != len(columns):
        raise ValueError(f"it has {len(words)} columns of {len(columns)}")
    try:
        return kind(*(column(word) for column, word in zip(columns.values(), words, strict=True)))
    except ValueError as error:
        raise ValueError(f"not a number: {error}") from error


def write_words(path: Path, lines: Iterable[Iterable[object]]) -> None:
    """Write the CSV file of a record. At every moment it is the whole former file or the whole new one."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    paths.write(path, text.getvalue())
