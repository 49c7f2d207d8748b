"""How much the tests with samples try: a short form in the suite, and a long one with `make test-long`."""

import os
from typing import TypeVar

LONG = "TREADLE_LONG_TESTS"
"""The environment variable that selects the long form."""

Value = TypeVar("Value")


def sample(short: Value, long: Value) -> Value:
    """Return the value of the form that was selected."""
    return long if os.environ.get(LONG) else short
