"""The lines that a process writes if it does not start because of its settings."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path

PREFIX = "TREADLE_"
_SECRET = ("database_url", "redis_url", "models", "secret_key", "jwt_secret", "oidc_client_secret", "token")
"""Settings that may contain a password or a key. Error messages do not repeat their values."""


def ownership_problem(path: Path) -> str | None:
    """Return why a file of the working folder is not read: another user may have written it.

    Its content could start programs, or send tokens to another server. A missing file has no problem.
    """
    own = {"0", str(os.geteuid()), os.environ.get("SUDO_UID", "0")}
    try:
        target, link = path.stat(), path.lstat()
    except OSError:
        return None
    if others := [status.st_uid for status in (target, link) if str(status.st_uid) not in own]:
        return f"belongs to another user (uid {others[0]}): read it, and then make it yours with `chown`"
    if target.st_mode & 0o002:
        return "can be changed by every user: read it, and then `chmod o-w` it"
    return None


def json_line(message: str) -> str:
    """Return a line as the entry of a log in JSON."""
    entry = {"error": message.removeprefix("treadle: "), "event": "start.failed", "level": "critical"}
    return json.dumps({**entry, "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z")})


def error_line(location: tuple[int | str, ...], value: object, message: str) -> str:
    """Return the line of one invalid setting, without values that may be secret."""
    text = message.removeprefix("Value error, ")
    if not location:
        return f"treadle: {text}"
    name = str(location[0])
    rendered = "" if name in _SECRET else f"={value!r}"
    return f"treadle: {PREFIX}{name.upper()}{rendered}: {text[0].lower()}{text[1:]}"
