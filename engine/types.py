"""The type of JSON values."""

from typing import Any

JSON = Any
"""Any storable JSON value: null, bool, finite number of 64 bits, text without NUL, list, object."""
