"""Texts of users cannot forge entries of the log; errors at the start follow the format of the log."""

import json
import logging
from collections.abc import Callable, Iterator
from typing import Literal

import pytest
import structlog

from app.cli import main
from app.logging import configure_logging
from app.settings import Settings

FORGED = "2026-01-01T00:00:00Z [info     ] admin.signed_in"
HOSTILE = f"x\n{FORGED}\r{FORGED}\x1b[2J\x1b]0;title\x07\x9b31m\u2028{FORGED}\x85{FORGED}\x00\u202e\u2066"


@pytest.fixture(autouse=True)
def restored_log() -> Iterator[None]:
    """Each test configures the log of this process."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_no_text_of_a_user_forges_an_entry(
    capsys: pytest.CaptureFixture[str], log_format: Literal["console", "json"]
) -> None:
    configure_logging(Settings(log_format=log_format))
    logger = structlog.get_logger()
    logger.warning("node.failed", text=HOSTILE, inner={"text": HOSTILE}, items=[HOSTILE])
    logging.getLogger("a.library").warning("it says %s", HOSTILE)
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logger.exception("node.exception_raised")
        logging.getLogger("a.library").exception("it raised")
    lines = capsys.readouterr().err
    assert not set(lines) & set("\r\x1b\x07\x9b\u2028\x85\x00\u202e\u2066")
    entries = [line for line in lines.split("\n") if line and not line.startswith(" ")]
    assert len(entries) == 4, entries
    assert not [line for line in entries if line.startswith(FORGED)]
    if log_format == "json":
        assert [json.loads(line)["level"] for line in entries] == ["warning", "warning", "error", "error"]


STORES = {"TREADLE_DATABASE_URL": "postgresql://me@127.0.0.1:1/x", "TREADLE_REDIS_URL": "redis://h"}


@pytest.mark.parametrize(
    ("command", "settings", "text"),
    [
        (main.server, {}, "set TREADLE_DATABASE_URL"),
        (main.worker, STORES, "Postgres at 127.0.0.1:1 (database x) cannot be reached"),
        (main.migrate, {}, "set TREADLE_DATABASE_URL"),
        (main.up, {"TREADLE_PORT": "many"}, "TREADLE_PORT='many'"),
        (main.server, {"TREADLE_CATALOG_FILE": "/no/such/file"}, "/no/such/file"),
        (main.worker, {"TREADLE_SECRET_KEY": "short"}, "TREADLE_SECRET_KEY"),
    ],
)
def test_an_error_at_the_start_is_one_line_in_the_format_of_the_log(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: Callable[[], None],
    settings: dict[str, str],
    text: str,
) -> None:
    for name, value in {"TREADLE_LOG_FORMAT": "json", **settings}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        command()
    lines = [str(ended.value.code)] if isinstance(ended.value.code, str) else capsys.readouterr().err.splitlines()
    [entry] = map(json.loads, lines)
    assert (entry["event"], entry["level"], text in entry["error"]) == ("start.failed", "critical", True), entry
    assert entry["timestamp"].endswith("Z")
