"""Turns tracing on in a server or a worker, by the variables of OpenTelemetry's SDK.

It is on if `OTEL_TRACES_EXPORTER` or an endpoint (`OTEL_EXPORTER_OTLP_ENDPOINT`,
`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`) is set, and `OTEL_SDK_DISABLED` is not `true`. Sampling, batches,
headers and resource attributes have the SDK's variables, too.
"""

import os
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from app.errors import CannotStartError
from engine import tracing
from engine.release import VERSION

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
INSTALL = "run pip install 'treadle[otel]', or unset the variables OTEL_*"
DEFAULT_PROTOCOL = "http/protobuf"


def configure_tracing(service: str) -> None:
    """Turn tracing on if the environment asks for it.

    Args:
        service: The name of the process, unless `OTEL_SERVICE_NAME` is set.

    Raises:
        CannotStartError: The library, or an exporter that a variable names, is not installed.
    """
    if not _is_requested():
        return
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise CannotStartError(
            f"the variables OTEL_* turn tracing on, but its library is missing: {INSTALL}"
        ) from error
    own_name = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": service}
    provider = TracerProvider(resource=Resource.create({"service.version": VERSION, **own_name}))
    for name in _exporters():
        provider.add_span_processor(BatchSpanProcessor(_exporter(name)))
    tracing.turn_on(provider.get_tracer("treadle", VERSION))


def _is_requested() -> bool:
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    return bool(_exporters()) and any(os.environ.get(name) for name in ("OTEL_TRACES_EXPORTER", *ENDPOINTS))


def _exporters() -> list[str]:
    names = [name.strip() for name in os.environ.get("OTEL_TRACES_EXPORTER", "otlp").split(",")]
    return [name for name in names if name not in ("", "none")]


def _exporter(name: str) -> "SpanExporter":
    """Make an exporter by its name in the variable, as OpenTelemetry's packages register it."""
    registered = _otlp_name() if name == "otlp" else name
    found = list(entry_points(group="opentelemetry_traces_exporter", name=registered))
    if not found:
        raise CannotStartError(f"there is no exporter of traces named {registered!r} (OTEL_TRACES_EXPORTER): {INSTALL}")
    exporter: SpanExporter = found[0].load()()
    return exporter


def _otlp_name() -> str:
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    return "otlp_proto_grpc" if (protocol or DEFAULT_PROTOCOL) == "grpc" else "otlp_proto_http"
