"""Kernels are compiled once and kept on disk; what is kept is checked before it is loaded."""

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hnn_kernels._define import compiled, cpp
from support.defined import delay
from support.paths import environment
from support.targets import NEEDS_CPU

pytestmark = NEEDS_CPU

SOURCE = 'extern "C" __attribute__((visibility("default"))) int answer;\nint answer = 42;\n'


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, as a new process has it."""
    monkeypatch.setenv("HNN_CACHE_DIR", str(tmp_path / "cache"))
    forget(monkeypatch)
    return tmp_path / "cache"


def forget(monkeypatch):
    monkeypatch.setattr(compiled, "_loaded", {})


def answer(source=SOURCE, flags=()) -> int:
    return ctypes.c_int.from_address(compiled.load(source, flags, "the answer", "answer")).value


def said(capfd) -> int:
    """The number of compilations that were said since the last call."""
    return len(re.findall(r"hnn_kernels: compiled the answer in \d+\.\d s", capfd.readouterr().err))


def entries(cache: Path, suffix: str) -> list[Path]:
    return sorted(cache.glob(f"*{suffix}"))


def test_an_entry_is_made_once_and_found_again(cache, monkeypatch, capfd):
    assert (answer(), said(capfd)) == (42, 1)
    assert (answer(), said(capfd)) == (42, 0)
    forget(monkeypatch)
    assert (answer(), said(capfd)) == (42, 0)
    assert len(entries(cache, ".so")) == len(entries(cache, ".txt")) == 1
    assert not [path for path in cache.iterdir() if path.suffix not in (".so", ".txt", ".lock")]


def test_another_source_or_flag_is_another_entry(cache, capfd):
    assert answer() == 42
    assert answer(SOURCE.replace("42", "43")) == 43
    assert answer(flags=("-DANYTHING",)) == 42
    assert (said(capfd), len(entries(cache, ".txt"))) == (3, 3)


def test_another_header_is_another_entry(cache, monkeypatch, capfd):
    answer()
    monkeypatch.setattr(compiled, "_headers", lambda: "another")
    answer()
    assert (said(capfd), len(entries(cache, ".txt"))) == (2, 2)


def cut(record: Path, library: Path) -> None:
    library.write_bytes(library.read_bytes()[:-100])


def change(record: Path, library: Path) -> None:
    content = bytearray(library.read_bytes())
    content[len(content) // 2] ^= 1
    library.write_bytes(content)


def empty(record: Path, library: Path) -> None:
    record.write_text("")


def binary(record: Path, library: Path) -> None:
    record.write_bytes(b"\xff\xfe")


def gone(record: Path, library: Path) -> None:
    library.unlink()


def elsewhere(record: Path, library: Path) -> None:
    """A record that names a library of another folder, even with its digest."""
    other = record.parent.parent / library.name
    library.rename(other)
    record.write_text(f"{record.read_text().split()[0]} ../{library.name}\n")


def open_to_others(record: Path, library: Path) -> None:
    library.chmod(0o666)


def record_open_to_others(record: Path, library: Path) -> None:
    record.chmod(0o666)


@pytest.mark.parametrize("breaks", [cut, change, empty, binary, gone, elsewhere, open_to_others, record_open_to_others])
def test_an_entry_that_is_not_what_was_written_is_made_again(cache, monkeypatch, capfd, breaks):
    # What is loaded stays mapped, so the entry that is broken is one that this process has not loaded.
    code = f"from hnn_kernels._define import compiled\ncompiled.load({SOURCE!r}, (), '', 'answer')"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(HNN_CACHE_DIR=str(cache)), capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert "compiled" in done.stderr
    (record,), (library,) = entries(cache, ".txt"), entries(cache, ".so")
    breaks(record, library)
    assert (answer(), said(capfd)) == (42, 1)
    forget(monkeypatch)
    assert (answer(), said(capfd)) == (42, 0)


def test_an_entry_of_another_user_is_made_again(cache, monkeypatch, capfd):
    answer()
    forget(monkeypatch)
    mine = compiled._ours
    monkeypatch.setattr(compiled, "_ours", lambda path: path.suffix not in (".so", ".txt") and mine(path))
    assert (answer(), said(capfd)) == (42, 2)


def test_a_folder_that_others_may_write_is_refused(cache):
    cache.mkdir()
    cache.chmod(0o777)
    with pytest.raises(RuntimeError, match="another user: set HNN_CACHE_DIR"):
        answer()


def test_a_folder_that_cannot_be_made_is_named(cache):
    cache.write_text("a file")
    with pytest.raises(RuntimeError, match=r"cannot be made.*set HNN_CACHE_DIR"):
        answer()


def test_several_processes_make_one_entry(cache):
    code = (
        "import ctypes\nfrom hnn_kernels._define import compiled\n"
        f"at = compiled.load({SOURCE!r}, (), 'the answer', 'answer')\nprint(ctypes.c_int.from_address(at).value)"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=environment(HNN_CACHE_DIR=str(cache)), text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(3)
    ]  # fmt: skip
    told = [process.communicate() for process in started]
    assert [out for out, _ in told] == ["42\n"] * 3
    assert sum("compiled the answer in" in err for _, err in told) == 1


def test_without_a_compiler_the_error_names_the_reference(cache, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(RuntimeError, match=r"there is no C\+\+ compiler.*backend='reference' needs none"):
        answer()


def test_a_compiler_that_is_not_there_is_named(cache, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(RuntimeError, match="no 'no-such-compiler'; backend='reference'"):
        answer()


def test_what_the_compiler_says_is_in_the_error(cache):
    with pytest.raises(RuntimeError, match=r"failed on the answer:(.|\n)*error(.|\n)*backend='reference'"):
        answer("int answer = nothing;")
    assert not entries(cache, ".txt")


def test_a_neuron_needs_the_compiler_at_its_first_call(cache, monkeypatch):
    from hnn_kernels._define import cpu

    monkeypatch.setattr(cpu, "_addresses", {})
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(RuntimeError, match=r"no C\+\+ compiler"):
        delay(torch.ones(2, 3))
    assert torch.equal(delay(torch.ones(2, 3), backend="reference")[0], torch.tensor([[0.0] * 3, [1.0] * 3]))


def test_the_default_folder_is_the_users_own(monkeypatch, tmp_path):
    monkeypatch.delenv("HNN_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compiled.folder() == tmp_path / "hnn_kernels"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert compiled.folder() == tmp_path / "home" / ".cache" / "hnn_kernels"
    assert os.stat(compiled.folder()).st_mode & 0o077 == 0


def test_the_headers_of_the_package_are_all_that_a_neuron_includes(cache, monkeypatch, tmp_path):
    """The installed package has all that a compilation includes."""
    headers = compiled._flags()["defined"]["headers"]
    for name in headers:
        target = tmp_path / "csrc" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((compiled.CSRC / name).read_bytes())
    monkeypatch.setattr(compiled, "CSRC", tmp_path / "csrc")
    source = cpp.source(delay.step, "delay", "float32", False, "default")
    assert compiled.load(source, (), "a neuron", "hnn_defined_kernels")
