"""Spans of OpenTelemetry, if the process has turned tracing on; else nothing, at no cost.

One trace goes from the request of a client through the queue to each visit of a node. The context of
a span is stored with a run as W3C Trace Context, so that the trace goes on in the worker that claims
the run. Attributes hold ids, numbers and names, never values of users. A crash loses the spans that
are not exported yet, and nothing else. `treadle[otel]` installs the library.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from opentelemetry.trace import Link, Span, Tracer

Kind = Literal["internal", "server", "client", "consumer"]
Carrier = dict[str, str]
"""`traceparent`, and `tracestate` if there is one (W3C Trace Context)."""
FIELDS = ("traceparent", "tracestate")
_tracer: "Tracer | None" = None
_NOTHING = nullcontext()


def turn_on(tracer: "Tracer | None") -> None:
    """Make spans with this tracer from now on; None turns tracing off."""
    global _tracer
    _tracer = tracer


def is_on() -> bool:
    return _tracer is not None


def span(
    name: str,
    kind: Kind = "internal",
    attributes: Mapping[str, Any] | None = None,
    *,
    parent: Mapping[str, str] | None = None,
    link: Mapping[str, str] | None = None,
) -> "AbstractContextManager[Span | None]":
    """Return a context manager whose block is a span, current in the block; None without tracing.

    Args:
        name: The name, which many spans share.
        kind: Which part of a call it is.
        attributes: Attributes that are known at its start; None as a value leaves one out.
        parent: The carrier of its parent; None: the current span.
        link: The carrier of another span that caused it.
    """
    if _tracer is None:
        return _NOTHING
    return _span(_tracer, name, kind, attributes or {}, parent, link)


@contextmanager
def _span(
    tracer: "Tracer",
    name: str,
    kind: Kind,
    attributes: Mapping[str, Any],
    parent: Mapping[str, str] | None,
    link: Mapping[str, str] | None,
) -> "Iterator[Span]":
    from opentelemetry.trace import SpanKind

    with tracer.start_as_current_span(
        name,
        context=None if parent is None else _context(parent),
        kind=SpanKind[kind.upper()],
        attributes={key: value for key, value in attributes.items() if value is not None},
        links=_links(link),
        # A message of an exception may hold a value of a user.
        record_exception=False,
        set_status_on_exception=False,
    ) as one:
        try:
            yield one
        except BaseException as error:
            end_with(one, type(error).__name__)
            raise


def end_with(one: "Span | None", code: str | None) -> None:
    """Note the error of a span by its code; None for none."""
    if one is None or code is None:
        return
    from opentelemetry.trace import StatusCode

    one.set_attribute("error.type", code)
    one.set_status(StatusCode.ERROR)


def current_carrier() -> Carrier | None:
    """Return the carrier of the current span; None without tracing or without a span."""
    if _tracer is None:
        return None
    carrier: Carrier = {}
    _propagator().inject(carrier)
    return carrier or None


def remote_parent(headers: Mapping[str, str]) -> AbstractContextManager[None]:
    """Return a context manager in whose block the sender of these headers is the current span."""
    if _tracer is None or "traceparent" not in headers:
        return _NOTHING
    return _attached({name: headers[name] for name in FIELDS if name in headers})


@contextmanager
def _attached(carrier: Mapping[str, str]) -> Iterator[None]:
    from opentelemetry.context import attach, detach

    token = attach(_context(carrier))
    try:
        yield
    finally:
        detach(token)


def current_span() -> "Span | None":
    """Return the current span; None without tracing."""
    if _tracer is None:
        return None
    from opentelemetry.trace import get_current_span

    return get_current_span()


def _context(carrier: Mapping[str, str]) -> Any:
    return _propagator().extract(dict(carrier))


def _links(carrier: Mapping[str, str] | None) -> "list[Link]":
    if carrier is None:
        return []
    from opentelemetry.trace import Link, get_current_span

    return [Link(get_current_span(_context(carrier)).get_span_context())]


def _propagator() -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator()
