"""`Client`: the API for programs without asyncio. One client serves any number of threads."""

import functools
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx2

from treadle.client import exchange, operations
from treadle.client.errors import TreadleError
from treadle.client.models import RunData, RunUpdateData
from treadle.client.operations import Operation
from treadle.client.retries import OnRetry, Retries
from treadle.client.run_watch import RUN_STATUS, RunWatch

Token = str | Callable[[], str] | None
"""A token or an API key, or a function that returns a valid one; it is called for each request and connection."""
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def _method(
    create: Callable[Arguments, Operation[Result]],
) -> "Callable[Concatenate[Client, Arguments], Result]":
    """Make a method that creates an operation and executes it."""

    @functools.wraps(create)
    def method(self: "Client", /, *arguments: Arguments.args, **options: Arguments.kwargs) -> Result:
        return self.call(create(*arguments, **options))

    return method


class Client:
    """A client of a Treadle server. Use it as `with Client(...) as client`, or call `close`.

    Args:
        url: The address of the API.
        token: A token or an API key, or a function that returns a valid one.
        retry_s: Seconds in which a failed operation is sent again, if that is safe; 0 sends it once.
        reconnect_s: Seconds in which a lost `watch_run` connects again. Default: without end.
        timeout_s: Seconds that one attempt may take.
        on_retry: Called with the error and the seconds of the pause before each further attempt.
        http: Your own HTTP client, for proxies and certificates. It is not closed.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000/graphql",
        *,
        token: Token = None,
        retry_s: float = 60.0,
        reconnect_s: float = math.inf,
        timeout_s: float = 30.0,
        on_retry: OnRetry | None = None,
        http: httpx2.Client | None = None,
    ) -> None:
        self.url = url
        self._token, self._on_retry = token, on_retry
        self._retry_s, self._reconnect_s, self._timeout_s = retry_s, reconnect_s, timeout_s
        self._own_http = None if http else httpx2.Client(**exchange.http_options(url))
        self._http: httpx2.Client = http or self._own_http  # type: ignore[assignment]

    def close(self) -> None:
        """Close the connections."""
        if self._own_http is not None:
            self._own_http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    viewer = _method(operations.viewer)
    run = _method(operations.run)
    runs = _method(operations.runs)
    node_states = _method(operations.node_states)
    waits = _method(operations.waits)
    workflow = _method(operations.workflow)
    workflows = _method(operations.workflows)
    validate_spec = _method(operations.validate_spec)
    create_workflow = _method(operations.create_workflow)
    delete_workflow = _method(operations.delete_workflow)
    save_draft = _method(operations.save_draft)
    create_version = _method(operations.create_version)
    publish_version = _method(operations.publish_version)
    create_run = _method(operations.create_run)
    execute_run = _method(operations.execute_run)
    run_workflow = _method(operations.run_workflow)
    run_adhoc = _method(operations.run_adhoc)
    cancel_run = _method(operations.cancel_run)
    pause_run = _method(operations.pause_run)
    resume_run = _method(operations.resume_run)
    step_run = _method(operations.step_run)
    retry_run = _method(operations.retry_run)
    fork_run = _method(operations.fork_run)

    def execute(
        self, text: str, variables: Mapping[str, Any] | None = None, *, is_repeatable: bool | None = None
    ) -> dict[str, Any]:
        """Execute a query or mutation of your own, and return its `data`.

        Args:
            is_repeatable: Whether it may be sent again if its response is lost. Default: unless it is a mutation.
        """
        return self.call(operations.custom(text, variables, is_repeatable=is_repeatable))

    def call(self, operation: Operation[Result]) -> Result:
        """Execute an operation. After a failure it is sent again, if that is safe."""
        retries = Retries(
            self._retry_s,
            has_fresh_tokens=callable(self._token),
            is_repeatable=operation.is_repeatable,
            on_retry=self._on_retry,
        )
        while True:
            try:
                return operation.read(self._send(operation))
            except TreadleError as error:
                pause_s = retries.pause_after(error)
            time.sleep(pause_s)

    def watch_run(
        self, run_id: str, *, after: int | None = None, types: Sequence[str] | None = None
    ) -> Generator[RunUpdateData]:
        """Yield the updates of a run until it ends. A lost connection continues after the last `seq`.

        Args:
            after: The last `seq` that you have received. Default: none; a snapshot comes first.
            types: Only changes of these `RunEventType`s. Default: all.
        """
        watch = RunWatch(run_id, after, types)
        retries = Retries(self._reconnect_s, has_fresh_tokens=callable(self._token), on_retry=self._on_retry)
        while not watch.is_ended:
            try:
                with closing(self._stream(watch.subscription())) as messages:
                    for message in messages:
                        retries.succeeded()
                        if (update := watch.receive(message)) is not None:
                            yield update
                if watch.is_ended or self._has_ended(run_id):
                    return
                raise exchange.stream_end(self.url)
            except TreadleError as error:
                if watch.is_ended:
                    return
                pause_s = retries.pause_after(error)
            time.sleep(pause_s)

    def wait_for_run(self, run_id: str) -> RunData:
        """Wait until a run has ended, and return it."""
        with closing(self.watch_run(run_id, types=[RUN_STATUS])) as updates:
            for _ in updates:
                continue
        return operations.existing(self.run(run_id), run_id)

    def run_and_wait(
        self,
        workflow_id: str | None = None,
        inputs: Any = None,
        *,
        spec: Any = None,
        options: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> RunData:
        """Start a run of a workflow, or of a `spec`, wait until it has ended, and return it.

        A run that fails is returned like others; `run.raise_for_status()` raises RunFailedError.
        """
        started = self.call(operations.start(workflow_id, spec, inputs, options, idempotency_key))
        return self.wait_for_run(started.id)

    def subscribe(self, text: str, variables: Mapping[str, Any] | None = None) -> Generator[dict[str, Any]]:
        """Yield the `data` of each message of a subscription of your own, over one connection.

        Raises ServerUnavailable when the connection is lost.
        """
        with closing(self._stream(operations.custom(text, variables))) as messages:
            yield from messages

    def _has_ended(self, run_id: str) -> bool:
        run = self.run(run_id)
        return run is None or run.is_terminal

    def _send(self, operation: Operation[Any]) -> dict[str, Any]:
        headers = exchange.headers_of(self._fresh_token(), exchange.JSON_TYPES)
        try:
            with self._http.stream(
                "POST",
                self.url,
                json=exchange.body_of(operation),
                headers=headers,
                timeout=exchange.timeout_of(operation, self._timeout_s),
                follow_redirects=False,
            ) as response:
                content = self._content(response)
        except exchange.CONNECTION_ERRORS as error:
            raise exchange.connection_error(error, self.url) from error
        return exchange.data_of(response, content, self.url)

    def _content(self, response: httpx2.Response) -> bytes:
        body = exchange.Body(response, self.url)
        for piece in response.iter_bytes():
            body.add(piece)
        return body.content()

    def _stream(self, operation: Operation[dict[str, Any]]) -> Generator[dict[str, Any]]:
        headers = exchange.headers_of(self._fresh_token(), exchange.EVENT_STREAM)
        try:
            with self._http.sse(
                self.url,
                method="POST",
                json=exchange.body_of(operation),
                headers=headers,
                timeout=exchange.stream_timeout(self._timeout_s),
                max_event_size=exchange.MAX_EVENT,
                follow_redirects=False,
            ) as source:
                if not exchange.is_stream(source.response):
                    content = self._content(source.response)
                    raise exchange.refusal_of(source.response, content, self.url)
                for event in source:
                    if event.event == "complete":
                        return
                    if event.event == "next":
                        yield operation.read(exchange.data_of_event(event.data))
        except exchange.CONNECTION_ERRORS as error:
            raise exchange.connection_error(error, self.url) from error
        raise exchange.stream_end(self.url)

    def _fresh_token(self) -> str | None:
        return self._token() if callable(self._token) else self._token
