"""Texts of users cannot forge entries of the log, or send commands to a terminal."""

import json
import logging
from typing import Literal

import pytest
import structlog

from app.logging import configure_logging
from app.settings import Settings

FORGED = "2026-01-01T00:00:00Z [info     ] admin.signed_in"
HOSTILE = f"x\n{FORGED}\r{FORGED}\x1b[2J\x1b]0;title\x07\x9b31m\u2028{FORGED}\x85{FORGED}\x00"


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_no_text_of_a_user_forges_an_entry(
    capsys: pytest.CaptureFixture[str], log_format: Literal["console", "json"]
) -> None:
    try:
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
    finally:
        structlog.reset_defaults()
    assert not set(lines) & set("\r\x1b\x07\x9b\u2028\x85\x00")
    entries = [line for line in lines.split("\n") if line and not line.startswith(" ")]
    assert len(entries) == 4, entries
    assert not [line for line in entries if line.startswith(FORGED)]
    if log_format == "json":
        assert [json.loads(line)["level"] for line in entries] == ["warning", "warning", "error", "error"]
