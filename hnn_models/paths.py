"""Files and folders that a user names: one rule for their names, writing in one step, one writer at a time."""

import io
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Name = str | os.PathLike[str]

_PART = ".hnn-part"
# "s3://bucket", and what Path makes of it, "s3:/bucket". A single letter is a drive of Windows.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+:/")


def local(path: Name, name: str) -> Path:
    """The local path that a user gave: absolute from now on, ``~`` and links resolved.

    Every path of a user goes through this function once, before it is read or written. What comes out is one name
    that every library takes for the same file.

    Args:
        path: the path as it was given.
        name: the argument that it was given for.

    Raises:
        TypeError: ``path`` is no path.
        ValueError: ``path`` is empty, an address such as ``file://...`` or ``s3://...``, or has ``::`` (which the
            libraries below read as an address), a NUL byte, bytes that are not UTF-8, or a user's home (``~name``) or
            a working directory that is not there.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise TypeError(f"{name} must be a path (str or pathlib.Path); got {path!r}")
    text = os.fspath(path)
    if not text:
        raise ValueError(f"{name} must name a path; got an empty one")
    if _ADDRESS.match(text):
        raise ValueError(f"{name} must be a path of this machine, not an address; got {text!r}")
    if "::" in text:
        raise ValueError(f"{name} must not have '::', which Lightning reads as an address; got {text!r}")
    if "\0" in text or not _is_text(text):
        raise ValueError(f"{name} must be text in UTF-8 without NUL; got {text!r}")
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        raise ValueError(f"{name} {text!r} is in the home of a user that is not there (./~ is a folder called ~)")
    try:
        resolved = Path(expanded).resolve()
    except FileNotFoundError as error:
        raise ValueError(f"{name} {text!r} is relative to a working directory that is not there any more") from error
    except (RuntimeError, OSError) as error:  # a circle of links
        raise ValueError(f"{name} {text!r} cannot be resolved: {error}") from error
    if "::" in str(resolved):
        raise ValueError(f"{name} must not have '::', which Lightning reads as an address; got {str(resolved)!r}")
    return resolved


def folder(path: Name, name: str) -> Path:
    """The folder that a user gave, as :func:`local` gives it. It need not be there yet.

    Raises:
        TypeError, ValueError: as :func:`local`; or something that is no folder is in its place.
    """
    found = local(path, name)
    for place in (found, *found.parents):
        if place.is_dir():
            break
        if place.exists():
            raise ValueError(f"{name} must be a folder, but {place} is a file")
    return found


def file(path: Name, name: str) -> Path:
    """The file that a user gave, as :func:`local` gives it. It need not be there yet.

    Raises:
        TypeError, ValueError: as :func:`local`; or a folder is in its place, or a file in the place of its folder.
    """
    found = local(path, name)
    if found.is_dir():
        raise ValueError(f"{name} must be a file, but {found} is a folder")
    folder(found.parent, f"the folder of {name}")
    return found


def ready(path: Path) -> None:
    """Make the folder ``path``, and see that files can be written there.

    Raises:
        OSError: they cannot; the error names the folder.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write(path: Path, content: bytes | bytearray | str | io.BytesIO) -> None:
    """Write a file in one step: whatever happens meanwhile, it is the former file whole, or the new one whole.

    The new content goes into a temporary file of the same folder first, whose name is always the same, so that what a
    killed process left is replaced. Where several processes write, they must take turns (:func:`locked`). Text is
    written in UTF-8, and a ``BytesIO`` is not copied. A link stays a link, and a file keeps its permissions.

    Raises:
        OSError: the file cannot be written; the error names it, and no temporary file is left.
    """
    target = path.resolve()
    part = target.with_name(f".{target.name[:200]}{_PART}")
    try:
        try:
            with part.open("wb") as out:
                if isinstance(content, io.BytesIO):
                    # Python 3.12.1 crashes at its end if the traceback of an error still has an open view.
                    with content.getbuffer() as view:
                        out.write(view)
                else:
                    out.write(content.encode() if isinstance(content, str) else content)
                out.flush()
                os.fsync(out.fileno())
            if target.exists():
                part.chmod(target.stat().st_mode & 0o7777)
            os.replace(part, target)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def append(path: Path, content: bytes) -> None:
    """Append to a file, whole or not at all. A reader that has the file open can follow it.

    Raises:
        OSError: the file cannot be written; the error names it, and it is as it was before.
    """
    before = path.stat().st_size if path.exists() else None
    with naming(path):
        try:
            with path.open("ab") as out:
                out.write(content)
        except BaseException:
            if before is not None:
                os.truncate(path, before)
            else:
                path.unlink(missing_ok=True)
            raise


def write_figure(path: Path, figure: "Figure", dots_per_inch: int) -> None:
    """Write a figure of Matplotlib as a PNG file, as :func:`write` does."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dots_per_inch)
    write(path, drawn)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an ``OSError`` that names no file name ``path``: which file it was is all that helps with a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[None]:
    """Be the only process that writes in the folder ``path``.

    Temporary files that a killed process left there are removed. Where the system or the file system has no locks,
    nothing is locked.

    Args:
        path: the folder; it has to be there.
        wait: wait for the other process, or else raise.

    Raises:
        ValueError: another process writes there.
    """
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        yield
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise ValueError(f"another process writes in {path}: wait for it, or name another folder") from error
        except OSError:  # a network's file system
            pass
        else:
            for part in path.glob(f".*{_PART}"):
                part.unlink(missing_ok=True)
        yield
    finally:
        os.close(descriptor)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
