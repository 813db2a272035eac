"""The code blocks of the pages run, and the commands that pages and docstrings show exist with these options."""

import re
import shlex
import tomllib

import pytest

from docs.notebooks import is_program
from support.imports import modules
from support.pages import PAGES, blocks, docstrings, prose, spans
from support.paths import ROOT
from support.sources import files

BLOCKS = [block for page in PAGES for block in blocks(page)]
# Those of a page that is one program run as its notebook: test_site.py.
PYTHON = [block for block in BLOCKS if block.language == "python" and not is_program(block.page.read_text())]
PROGRAMS = ("hnn", "python", "make", "pip", "torchrun", "git", "pre-commit", "bash")


def commands(text: str) -> list[str]:
    """The lines that begin with a program or the path of a script, without comments."""
    lines = (re.sub(r"\s+#.*| {2,}\S.*", "", line.strip()) for line in text.splitlines())
    script = re.compile(r"[\w.]+/\S+\.sh\b|\.ci/run\b")
    return [line for line in lines if script.match(line) or (" " in line and line.split(" ")[0] in PROGRAMS)]


def shown() -> list[tuple[str, str]]:
    """Every command, with the page or the file that shows it."""
    found = [(str(block), line) for block in BLOCKS if block.language != "python" for line in commands(block.text)]
    for page in PAGES:
        found += [(page.name, line) for span in spans(prose(page)) for line in commands(span)]
    for path in files(".py"):
        if "tests" in path.parts and "support" not in path.parts:
            continue
        for _, text in docstrings(path):
            lines = [line for line in text.splitlines() if line.startswith("    ")]
            found += [(path.name, line) for part in [*spans(text), *lines] for line in commands(part)]
    return list(dict.fromkeys(found))


COMMANDS = shown()


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_blocks_run(block, tmp_path, forks):
    """Each by itself, in a folder of its own; one that needs another library where it is installed."""
    for library in ("norse", "sinabs", "snntorch", "spikingjelly", "nir"):
        if re.search(rf"^(import|from) {library}\b|\bhnn_kernels\.{library}\b", block.text, re.MULTILINE):
            pytest.importorskip(library)
    done = forks.run(block.page, tmp_path, text=block.text)
    assert done.returncode == 0, done.stderr


def parse(app, name: str, words: list[str]) -> None:
    """Have the command line parse the words, as for a call, and not run it."""
    typer = pytest.importorskip("typer", reason="the command line needs the extra 'models'")
    command = typer.main.get_command(app)
    context = command.make_context(name, list(words))
    while hasattr(command, "commands"):
        name, command, words = command.resolve_command(context, [*context._protected_args, *context.args])
        if len(words) <= 1 and all(word.startswith("--") for word in words):  # as prose names it: hnn train --compile
            options = [
                option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
            ]
            assert set(words) <= {"--help", *options}, words
            return
        context = command.make_context(name, list(words), parent=context)


def hnn(words: list[str]) -> None:
    """``hnn`` with these words; its commands of the benchmark suite have an application of their own."""
    pytest.importorskip("lightning", reason="training needs the extra 'models'")
    from benchmarks.suite.command import app as suite
    from hnn_models.cli.app import app

    if words[:1] == ["bench"]:
        parse(suite, "hnn bench", words[1:])
    elif "--help" not in words and words:
        parse(app, "hnn", words)


def python(words: list[str]) -> None:
    """``python -m module ...``, or the path of a script; an option must be in the text of what is run."""
    words = [word for word in words if word != "-P"]
    if words[0] == "-m":
        name, rest = words[1], words[2:]
        if name in ("pytest", "pip"):
            return tool(name, rest)
        if name in ("benchmarks", "hnn_models"):
            return hnn(["bench", *rest] if name == "benchmarks" else rest)
        found = {**modules("hnn_kernels"), **modules("benchmarks"), **modules("support", ROOT / "tests")}
        path = found.get(f"{name}.__main__") or found[name]
    else:
        path, rest = ROOT / words[0], words[1:]
    for word in rest:
        if word.startswith("-"):
            assert f'"{word.partition("=")[0]}"' in path.read_text(), word
    return None


def make(words: list[str]) -> None:
    """Targets, and the variables given to them, are those of the Makefile."""
    text = (ROOT / "Makefile").read_text()
    for word in words:
        name, equals, _ = word.partition("=")
        assert re.search(rf"^{name}\b.*=|\$\({name}\)" if equals else rf"^{name}:", text, re.MULTILINE), word


def tool(name: str, words: list[str]) -> None:
    """Paths among the words exist, and the extras of ``.[...]``."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for word in words:
        chosen = re.fullmatch(r"\.\[([\w,]+)\]", word)
        if chosen:
            assert set(chosen[1].split(",")) <= extras.keys(), word
        path, _, test = word.partition("::")
        if re.match(r"(tests|benchmarks|docs|csrc)/", path):
            assert (ROOT / path).exists(), word
            assert not test or f"def {test.partition('[')[0]}(" in (ROOT / path).read_text(), word


def check(command: str) -> None:
    """Raise unless the command is one that this project has."""
    words = [word for word in shlex.split(command) if word != "..."]
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    program, *rest = words
    if program == "hnn":
        hnn(rest)
    elif program == "torchrun":
        python(rest[next(i for i, word in enumerate(rest) if word == "-m" or word.endswith(".py")) :])
    elif program == "python":
        python(rest)
    elif program == "make":
        make(rest)
    elif program in ("pip", "git", "pre-commit"):
        tool(program, rest)
    else:
        assert (ROOT / (rest[0] if program == "bash" else program)).is_file(), command


@pytest.mark.parametrize(("place", "command"), COMMANDS, ids=[f"{place}-{command}" for place, command in COMMANDS])
def test_commands_exist(place, command):
    check(command)


def test_commands_and_blocks_are_found():
    assert {block.page.name for block in PYTHON} >= {"README.md", "single-steps.md", "training.md"}
    programs = {command.split(" ")[0] for _, command in COMMANDS}
    assert programs >= {"hnn", "python", "make", "pip", "torchrun", "benchmarks/gpu_host.sh"}


@pytest.mark.parametrize(
    "command",
    [
        "hnn trains A16-S10", "hnn train A16-S10 --epoch-count 3", "hnn train A16-S10 --epochs three",
        "hnn train --compiled", "hnn bench --quack", "python -m benchmarks.nothing",
        "python -m benchmarks report --nothing", "python tests/support/speed.py --keep", "make tests",
        "make test TARGET=1", 'pip install ".[model]"', "python -m pytest tests/test_nothing.py", "benchmarks/none.sh",
    ],
)  # fmt: skip
def test_a_command_that_is_not_there_is_found(command):
    with pytest.raises(Exception):  # noqa: B017, PT011  every program has an error of its own
        check(command)
