"""What nodes tell people, made fit to be stored: messages, log lines and streamed text. Outputs are checked instead."""

from engine.events import JSON
from engine.values.storable import NotStorable, check_storable

SHOWN = "\N{REPLACEMENT CHARACTER}"


def clean_text(text: str) -> str:
    """What Postgres cannot keep, NUL and half surrogate pairs, is shown as the replacement character."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        return "".join(SHOWN if one == "\0" or "\ud800" <= one <= "\udfff" else one for one in text)
    return text


def is_storable(value: JSON) -> bool:
    try:
        check_storable(value)
    except NotStorable:
        return False
    return True
