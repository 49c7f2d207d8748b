"""Serves the metrics of a worker at the port TREADLE_METRICS_PORT.

The library's own server, in a thread, answers also while the event loop of the worker is busy.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import prometheus_client
import structlog

from app.settings import Settings
from engine.metrics import REGISTRY, WORKER_SLOTS, WORKER_SLOTS_USED
from worker.runner import Runner

log = structlog.get_logger(__name__)


class MetricsPortTaken(Exception):
    """The port for metrics cannot be bound. The message, one line, says why and what to do."""


@contextmanager
def serving_metrics(settings: Settings, runner: Runner) -> Iterator[None]:
    """Serve the metrics inside the block, if a port is set. Raises MetricsPortTaken."""
    WORKER_SLOTS.set(runner.capacity)
    WORKER_SLOTS_USED.set_function(lambda: len(runner.tasks))
    if settings.metrics_port is None:
        yield
        return
    where = f"{settings.host}:{settings.metrics_port}"
    try:
        server, thread = prometheus_client.start_http_server(settings.metrics_port, settings.host, REGISTRY)
    except OSError as error:
        raise MetricsPortTaken(
            f"metrics cannot be served at {where} ({error.strerror}): choose another TREADLE_METRICS_PORT"
        ) from error
    log.info("metrics.ready", address=f"http://{settings.host}:{server.server_port}/metrics")
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
