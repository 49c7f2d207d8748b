"""Log configuration of all processes: structlog to stderr, as text for people or as JSON.

Records of the standard library's `logging` are written in the same format. Secrets that nodes use
are masked in each line as it is written, and control characters in texts of users are escaped.
Every command of `treadle` calls `configure_logging` at its start.
"""

import io
import logging
import sys
from typing import Any, NoReturn

import structlog

from app.settings import Settings
from app.terminal_text import escape_controls
from engine.values.redaction import redact_log


def _without_control(_: Any, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Escape line breaks and control characters in all texts.

    Texts of users could otherwise forge lines, or send commands to a terminal.
    """
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = escape_controls(value, keep_lines=name == "exception")
    return event


def _write_traceback(file: Any, exception: Any) -> None:
    """Write a traceback for people. Its lines are indented, so that none looks like an entry."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exception)
    file.write(escape_controls(text.getvalue(), keep_lines=True).replace("\n", "\n    "))


def _masked(render: structlog.types.Processor) -> structlog.types.Processor:
    """Mask secrets in the rendered line, because tracebacks may contain arguments of a node."""

    def masked_render(logger: Any, name: str, event: structlog.types.EventDict) -> str:
        return redact_log(str(render(logger, name, _without_control(logger, name, event))))

    return masked_render


def configure_logging(settings: Settings) -> None:
    """Configure structlog and `logging` for this process. A second call replaces the first."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer = _masked(_renderer(settings))
    level = logging.getLevelName(settings.log_level.upper())
    exception_info = [structlog.processors.format_exc_info] if settings.log_format == "json" else []
    structlog.configure(
        processors=[*shared, *exception_info, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processors=[strip, *exception_info, renderer], foreign_pre_chain=shared)
    )
    # Code that uses the database logs one line when it is unavailable.
    # asyncpg's pools would add a traceback for each connection.
    logging.getLogger("asyncpg").setLevel(logging.ERROR)
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)


def exit_at_start(settings: Settings, error: object) -> NoReturn:
    """End a process that cannot start with exit code 1 and one line, in the format of its log."""
    if settings.log_format == "json":
        structlog.get_logger(__name__).critical("start.failed", error=str(error))
        sys.exit(1)
    sys.exit(f"treadle: {error}")


def _renderer(settings: Settings) -> structlog.types.Processor:
    if settings.log_format == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(),
        # The other formatters print local variables, which may contain inputs of users and secrets.
        exception_formatter=_write_traceback,
    )
