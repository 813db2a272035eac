"""The file of a record: CSV, one :class:`Row` per line. Rows are only ever appended."""

import argparse
import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

from hnn_models import paths
from hnn_models.records import parsed

from .rows import Row

_TYPES = get_type_hints(Row)


def csv_file(text: str) -> Path:
    """The file that a program's option names, for ``type`` of :mod:`argparse`.

    Raises:
        argparse.ArgumentTypeError: it is no file of this machine, or a folder.
    """
    try:
        return paths.file(text, "the record")
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def is_record(path: Path) -> bool:
    """True if the file ``path`` has the columns of a record."""
    with path.open(newline="", encoding="utf-8") as file:
        return tuple(next(csv.reader(file), ())) == Row._fields


def read(path: Path) -> list[Row]:
    """Return all rows, the oldest first.

    Raises:
        ValueError: ``path`` is not a record, or is damaged. The message names the line.
    """
    if not is_record(path):
        raise ValueError(f"{path} is not a record of benchmarks: its columns must be {', '.join(Row._fields)}")
    with path.open(newline="", encoding="utf-8") as file:
        return parsed(path, list(csv.reader(file))[1:], _row)


def append(path: Path, rows: Iterable[Row]) -> None:
    """Append ``rows``. A new file gets a header first.

    The file is replaced in one step (:func:`hnn_models.paths.write`): whatever happens, it has all of these rows or
    none. Processes that append to records of one folder take turns.

    Raises:
        ValueError: ``path`` exists and is not a record, or is damaged.
    """
    with paths.locked(path.parent, wait=True):
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        if path.exists():
            read(path)
            former = path.read_bytes().rstrip(b"\r\n") + b"\n"
        else:
            writer.writerow(Row._fields)
            former = b""
        writer.writerows(rows)
        paths.write(path, former + text.getvalue().encode())


def _row(line: Sequence[str]) -> Row:
    return Row(*(_value(_TYPES[name], word) for name, word in zip(Row._fields, line, strict=True)))


def _value(kind: Any, word: str) -> Any:
    if isinstance(kind, UnionType):
        return _value(get_args(kind)[0], word) if word else None
    return kind(word)
