"""One table has every environment variable that the sources read, and no other."""

import re

import pytest

from support.paths import ROOT
from support.sources import files, read_variables

PAGE = ROOT / "docs" / "switches.md"
# What programs are told about this machine, and a variable that a script sets for one of its own functions.
NOT_A_SWITCH = {"PYTHONPATH", "LINES_SHOWN"}


def read_by_sources() -> dict[str, set[str]]:
    """The files that read each variable. Those of the tests count; what they read for their own support does too."""
    found: dict[str, set[str]] = {}
    for path in [*files(".py", ".sh", ".cpp", ".cu", ".h", ".cuh"), ROOT / ".ci" / "run"]:
        for name in read_variables(path) - NOT_A_SWITCH:
            found.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    return found


def in_the_tables() -> list[str]:
    """The names in the first columns of the page's tables, in order."""
    rows = re.findall(r"^\| (`[^|]*) \|", PAGE.read_text(), re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`(\w+)`", row)]


def test_the_table_has_what_the_sources_read():
    read, listed = read_by_sources(), in_the_tables()
    assert len(listed) == len(set(listed)), "a variable stands twice"
    assert {name: paths for name, paths in read.items() if name not in listed} == {}
    assert set(listed) - read.keys() == set()


def test_every_switch_of_the_project_is_seen():
    """A variable of ours in quotation marks is one that the search above must have found, however it is read."""
    quoted = {name for path in files(".py") for name in re.findall(r"\"(HNN_[A-Z_]+)\"", path.read_text())}
    # Of the C++ preprocessor: a macro that the build defines, and those of the header that `make generate` writes.
    header = (ROOT / "csrc" / "layer.h").read_text()
    macros = {"HNN_CUDA_ARCHITECTURES", *re.findall(r"#define (HNN_\w+)", header)}
    assert quoted - macros <= read_by_sources().keys()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", "import os\nos.environ['X']"),
        ("a.py", "import os\nos.environ.get('X', 0)"),
        ("a.py", "import os\nos.environ.setdefault('X', '1')"),
        ("a.py", "import os\nprint('X' in os.environ)"),
        ("a.py", "import os\n[os.environ[v] for v in ('X',) if os.environ.get(v)]"),
        ("a.cpp", 'const char* x = std::getenv("X");'),
        ("a.sh", "echo ${X:-none}"),
        ("run", "#!/bin/sh\necho ${X-none}"),
    ],
)
def test_every_way_to_read_is_seen(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_variables(tmp_path / name) == {"X"}
    (tmp_path / "set.py").write_text("import os\nos.environ['X'] = '1'")
    assert read_variables(tmp_path / "set.py") == set()
