"""The file of a record: whole whatever happens, and found by the name that it was given."""

import pytest

from benchmarks.records import compare, record
from support.bench_rows import row
from support.paths import files_of_at_most


def test_a_full_disk_leaves_the_record_whole(tmp_path):
    path = tmp_path / "bench.csv"
    record.append(path, [row()])
    before = path.read_bytes()
    with files_of_at_most(len(before) + 10), pytest.raises(OSError, match=f"File too large: '{path}'"):
        record.append(path, [row(), row()])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_record_without_a_last_line_end_is_continued_on_a_line_of_its_own(tmp_path):
    path = tmp_path / "bench.csv"
    record.append(path, [row()])
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    record.append(path, [row()])
    assert record.read(path) == [row(), row()]


def test_a_record_in_a_folder_whose_name_has_an_at(tmp_path):
    path = tmp_path / "me@home" / "bench.csv"
    path.parent.mkdir()
    record.append(path, [row()])
    assert compare.select(str(path)) == compare.select(f"{path}@{row().run}") == [row()]


def test_what_studies_take(tmp_path):
    import argparse

    assert record.csv_file(str(tmp_path / "x.csv")) == tmp_path / "x.csv"
    with pytest.raises(argparse.ArgumentTypeError, match=f"the record must be a file, but {tmp_path} is a folder"):
        record.csv_file(str(tmp_path))
