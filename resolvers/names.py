"""What a name may be: said once, for everything that people name."""

from persistence.problems import invalid

MAX_NAME = 200
MAX_DESCRIPTION = 10_000


def checked_name(field: str, name: str) -> str:
    """The name without space around it. Raises Invalid."""
    stripped = name.strip()
    if not 1 <= len(stripped) <= MAX_NAME:
        raise invalid(field, "LENGTH", f"must have 1 to {MAX_NAME} characters, has {len(stripped)}")
    return checked_text(field, stripped)


def checked_description(field: str, text: str) -> str:
    if len(text) > MAX_DESCRIPTION:
        raise invalid(field, "LENGTH", f"must have at most {MAX_DESCRIPTION} characters, has {len(text)}")
    return checked_text(field, text)


def checked_text(field: str, text: str) -> str:
    """Text that Postgres can keep. Raises Invalid."""
    if "\0" in text:
        raise invalid(field, "NUL", "holds a NUL character")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise invalid(field, "SURROGATE", "holds half of a surrogate pair")
    return text
