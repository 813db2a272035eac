"""A check of an error's type and message."""

import re

import pytest


def refuses(function, arguments, error, *said):
    """Check that the call raises exactly this type of error, with a message that has every one of these words."""
    with pytest.raises(Exception) as raised:  # noqa: PT011  the type is asserted just below
        function(**arguments)
    assert type(raised.value) is error, f"{type(raised.value).__name__}: {raised.value}"
    for words in said:
        assert re.search(rf"(?<!\w){re.escape(words)}(?!\w)", str(raised.value)), f"{words!r} not in: {raised.value}"
