"""How the processes log: structlog to stderr, for people or as JSON, standard library records included."""

import logging
import sys
from typing import Any

import structlog

from app.settings import Settings
from engine.values.redaction import redact_log


def _without_secrets(render: structlog.types.Processor) -> structlog.types.Processor:
    """Looks at the line as it is written: tracebacks, too, repeat what nodes were given."""

    def rendered(logger: Any, name: str, event: structlog.types.EventDict) -> str:
        return redact_log(str(render(logger, name, event)))

    return rendered


def configure_logging(settings: Settings) -> None:
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    plain: structlog.types.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # The prettier ones print local variables: people's inputs, and secrets.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    renderer = _without_secrets(plain)
    level = logging.getLevelName(settings.log_level.upper())
    last = [structlog.processors.format_exc_info] if settings.log_format == "json" else []
    structlog.configure(
        processors=[*shared, *last, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    strip = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processors=[strip, *last, renderer], foreign_pre_chain=shared)
    )
    # A database that is away is told once, by whoever needs it; asyncpg's pools tell it with a traceback a connection.
    logging.getLogger("asyncpg").setLevel(logging.ERROR)
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
