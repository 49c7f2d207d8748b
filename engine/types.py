"""The type of JSON values."""

from typing import Any

JSON = Any
"""A storable JSON value: null, bool, finite number of at most 64 bits, text without NUL, list or
object.
"""
