"""What a name may be: said once, for everything that people name."""

from persistence.problems import invalid

MAX_NAME = 200
MAX_DESCRIPTION = 10_000


def checked_name(field: str, name: str) -> str:
    """The name without space around it. Raises Invalid."""
    stripped = name.strip()
    if not 1 <= len(stripped) <= MAX_NAME:
        raise invalid(field, "LENGTH", f"must have 1 to {MAX_NAME} characters, has {len(stripped)}")
    return stripped


def checked_description(field: str, text: str) -> str:
    if len(text) > MAX_DESCRIPTION:
        raise invalid(field, "LENGTH", f"must have at most {MAX_DESCRIPTION} characters, has {len(text)}")
    return text
