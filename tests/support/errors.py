"""The check of an error: its type and what its message says."""

import re

import pytest


def refuses(function, arguments, error, *said):
    """The call fails with exactly this exception, and its message says every one of these things."""
    with pytest.raises(Exception) as raised:  # noqa: PT011  the type is asserted just below
        function(**arguments)
    assert type(raised.value) is error, f"{type(raised.value).__name__}: {raised.value}"
    for words in said:
        assert re.search(rf"(?<!\w){re.escape(words)}(?!\w)", str(raised.value)), f"{words!r} not in: {raised.value}"
