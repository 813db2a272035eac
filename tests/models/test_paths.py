"""Paths that users give: one name for reading and writing, and files that are whole whatever happens."""

import errno
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hnn_models import paths
from support.paths import files_of_at_most


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home that is the working directory's parent."""
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


@pytest.mark.parametrize(
    ("given", "there"),
    [
        ("x", "work/x"),
        ("./x/../y/", "work/y"),
        ("~/x", "x"),
        ("~", ""),
        ("./~/x", "work/~/x"),
        ("-x", "work/-x"),
        ("a b/Zürich ~ 日本 $HOME {0} %s [1] *", "work/a b/Zürich ~ 日本 $HOME {0} %s [1] *"),
        ("a:b", "work/a:b"),
        ("a:", "work/a:"),
        (".hidden", "work/.hidden"),
        (Path("x"), "work/x"),
    ],
)
def test_a_name_is_a_local_one(home, given, there):
    found = paths.local(given, "out")
    assert found == home / there
    assert paths.local(found, "out") == found
    os.chdir("/")
    assert paths.local(found, "out") == found


def test_links_are_resolved(home):
    (home / "real").mkdir()
    (home / "link").symlink_to("real")
    assert paths.folder("../link/x", "out") == home / "real" / "x"
    (home / "circle").symlink_to("circle")
    with pytest.raises(ValueError, match=r"out '\.\./circle' cannot be resolved"):
        paths.local("../circle", "out")


@pytest.mark.parametrize(
    "given",
    ["file:///x", "s3://bucket/x", "http://x", Path("s3://bucket"), "gs:/x", "a::b", "x/simplecache::y", "", "a\0b",
     "\udcff", "~nobody-of-this-name/x"],
)  # fmt: skip
def test_what_is_no_local_name_is_refused_by_name(home, given):
    with pytest.raises(ValueError, match=r"^run_dir ") as caught:
        paths.local(given, "run_dir")
    assert repr(str(given))[1:-1] in str(caught.value) or given == ""
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("given", [None, 3, b"x", ["x"]])
def test_what_is_no_path_is_refused(given):
    with pytest.raises(TypeError, match="out must be a path"):
        paths.local(given, "out")


def test_a_working_directory_that_is_gone(home):
    os.chdir(home / "work")
    (home / "work").rmdir()
    with pytest.raises(ValueError, match="out 'x' is relative to a working directory that is not there"):
        paths.local("x", "out")
    os.chdir("/")


def test_a_file_is_no_folder_and_a_folder_no_file(home):
    (home / "file").touch()
    for given in ("../file", "../file/run", "../file/a/b"):
        with pytest.raises(ValueError, match=f"--out must be a folder, but {home}/file is a file"):
            paths.folder(given, "--out")
    with pytest.raises(ValueError, match=f"--out must be a file, but {home}/work is a folder"):
        paths.file(".", "--out")
    with pytest.raises(ValueError, match=f"the folder of --out must be a folder, but {home}/file is a file"):
        paths.file("../file/x.csv", "--out")
    assert paths.folder("new/one", "--out") == home / "work" / "new" / "one"
    assert paths.file("new.csv", "--out") == home / "work" / "new.csv"


def test_ready_makes_the_folder_and_names_one_that_cannot_be_written(tmp_path, monkeypatch):
    paths.ready(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []

    def refuse(**options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(paths.tempfile, "TemporaryFile", refuse)
    with pytest.raises(PermissionError, match=str(tmp_path / "a")):
        paths.ready(tmp_path / "a")


def test_write_replaces_what_a_link_points_to(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    paths.write(tmp_path / "link", "new: ü")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == "new: ü".encode()
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640
    paths.write(tmp_path / ("n" * 250), b"long")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "n" * 250, "real"]


def test_a_full_disk_leaves_the_former_file_and_names_it(tmp_path):
    path = tmp_path / "file"
    paths.write(path, b"former")
    with files_of_at_most(10_000), pytest.raises(OSError, match=str(path)) as caught:
        paths.write(path, bytes(20_000))
    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"former"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("former", [None, b"former"])
def test_what_is_appended_is_there_whole_or_not_at_all(tmp_path, former):
    path = tmp_path / "file"
    if former is not None:
        path.write_bytes(former)
    with files_of_at_most(10_000), pytest.raises(OSError, match=str(path)) as caught:
        paths.append(path, bytes(20_000))
    assert caught.value.filename == str(path)
    assert (path.read_bytes() if path.exists() else None) == former
    paths.append(path, b"more")
    assert path.read_bytes() == (former or b"") + b"more"


def test_an_error_leaves_no_view_of_what_was_to_be_written(tmp_path):
    """The traceback keeps the views of its frames, and Python 3.12.1 crashes when it collects one of a ``BytesIO``."""
    whole = io.BytesIO(b"new")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match=str(tmp_path / "folder")) as caught:
        paths.write(tmp_path / "folder", whole)
    assert caught.tb is not None
    whole.truncate(0)  # a BufferError while there is a view
    paths.write(tmp_path / "file", io.BytesIO(b"new"))
    assert (tmp_path / "file").read_bytes() == b"new"


def test_an_interrupt_while_writing_leaves_no_temporary_file(tmp_path, monkeypatch):
    def interrupted(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        paths.write(tmp_path / "file", b"new")
    assert list(tmp_path.iterdir()) == []


def test_naming():
    with pytest.raises(OSError, match="No space left on device: '/run'"), paths.naming(Path("/run")):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(FileNotFoundError, match="'/other'"), paths.naming(Path("/run")):
        raise FileNotFoundError(errno.ENOENT, "No such file", "/other")


HOLDS = """
import sys, time
from pathlib import Path
from hnn_models import paths
with paths.locked(Path(sys.argv[1]), wait=False):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_one_process_at_a_time_writes_in_a_folder(tmp_path):
    (tmp_path / ".last.ckpt.hnn-part").touch()  # what a killed process left
    other = subprocess.Popen([sys.executable, "-c", HOLDS, tmp_path], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "locked\n"
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(ValueError, match=f"another process writes in {tmp_path}"):
            paths.locked(tmp_path, wait=False).__enter__()
    finally:
        other.send_signal(signal.SIGKILL)
        other.communicate()
    with paths.locked(tmp_path, wait=False):
        pass
