"""Calls of the command line ``hnn`` in this process."""

import pytest

pytest.importorskip("lightning", reason="training needs the extra 'models'")

from typer.testing import CliRunner

from hnn_models.cli.app import app


def hnn(*arguments, code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def refused(*arguments, code=1):
    """stderr of a command that fails with a message and prints no result."""
    result = hnn(*arguments, code=code)
    assert result.stdout == ""
    return result.stderr
