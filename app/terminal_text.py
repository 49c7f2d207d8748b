"""Makes texts of users safe for a terminal and for lines of a log: control characters are escaped.

A line break could forge a line, an escape sequence could send commands to the terminal, and a
character that changes the direction of text could show another text than the one that is there
(CVE-2021-42574). Pure.
"""

import re

_CODES = "\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_CONTROL = re.compile(f"[\n{_CODES}]")
_CONTROL_BUT_LINES = re.compile(f"[{_CODES}]")


def escape_controls(text: str, *, keep_lines: bool = False) -> str:
    r"""Write each control character in a text as its code, such as `\u001b`. So JSON stays JSON.

    Args:
        text: The text.
        keep_lines: Whether its line breaks stay.
    """
    return (_CONTROL_BUT_LINES if keep_lines else _CONTROL).sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return {"\n": "\\n", "\r": "\\r"}.get(match[0]) or f"\\u{ord(match[0]):04x}"
