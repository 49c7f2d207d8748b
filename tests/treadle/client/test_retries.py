"""Which failures are repeated: each row is run with `AsyncClient` and with `Client`."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.treadle.client.schema_samples import Sample
from tests.treadle.client.scripted_server import LOST, ScriptedServer, refused, response, scripted, stream
from treadle.client import AddressError, AsyncClient, Client, OperationError, ServerUnavailable, TreadleError, exchange
from treadle.client.documents import document
from treadle.client.run_watch import NUMBERED

DONE = response(200, {"data": {"done": True}})
QUERY, MUTATION = "{ done }", "mutation { done }"
KINDS = pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])


async def execute(server: ScriptedServer, is_async: bool, text: str, **options: Any) -> Any:
    """Execute an operation with one of the clients."""
    execute_options = {key: options.pop(key) for key in ("is_repeatable",) if key in options}
    if is_async:
        async with AsyncClient(server.url, **options) as client:
            return await client.execute(text, **execute_options)
    with Client(server.url, **options) as blocking:
        return await asyncio.to_thread(lambda: blocking.execute(text, **execute_options))


@KINDS
@pytest.mark.parametrize(
    ("first", "text", "is_repeated"),
    [
        (LOST, QUERY, True),
        (LOST, MUTATION, False),
        (response(502, "<html>", kind="text/html"), QUERY, True),
        (response(502, "<html>", kind="text/html"), MUTATION, False),
        (refused("UNAVAILABLE", 503), QUERY, True),
        (refused("UNAVAILABLE"), QUERY, True),
        (refused("UNAVAILABLE"), MUTATION, False),
        # A limit refuses an operation before it is executed.
        (refused("LIMIT", 429, 0.01), MUTATION, True),
        (refused("LIMIT", 429, Retry_After="0"), MUTATION, True),
        (refused("LIMIT"), QUERY, False),
        (refused("VALIDATION", 400), QUERY, False),
        (refused("FORBIDDEN"), QUERY, False),
        (refused("INTERNAL"), QUERY, False),
    ],
)
async def test_an_operation_is_repeated_if_it_may_succeed_and_was_not_executed(
    is_async: bool, first: str, text: str, is_repeated: bool
) -> None:
    async with scripted(first, DONE) as server:
        if is_repeated:
            assert await execute(server, is_async, text) == {"done": True}
        else:
            with pytest.raises((OperationError, ServerUnavailable)):
                await execute(server, is_async, text)
        assert len(server.requests) == 1 + is_repeated


@KINDS
async def test_a_mutation_is_repeated_if_the_caller_says_that_it_is_repeatable(is_async: bool) -> None:
    async with scripted(LOST, DONE) as server:
        assert await execute(server, is_async, MUTATION, is_repeatable=True) == {"done": True}


@KINDS
async def test_a_repeat_has_the_same_idempotency_key(is_async: bool) -> None:
    sample = Sample(document("CancelRun")).data()
    sample["cancelRun"]["errors"] = []
    async with scripted(LOST, refused("UNAVAILABLE"), response(200, {"data": sample})) as server:
        if is_async:
            async with AsyncClient(server.url) as client:
                await client.cancel_run("run_1")
        else:
            with Client(server.url) as blocking:
                await asyncio.to_thread(blocking.cancel_run, "run_1")
    keys = {body["variables"]["input"]["idempotencyKey"] for _, body in server.requests}
    assert (len(server.requests), len(keys)) == (3, 1)


@KINDS
@pytest.mark.parametrize(
    ("responses", "options", "error", "message"),
    [
        ([LOST], {"retry_s": 0}, ServerUnavailable, "the connection to .* was lost"),
        ([refused("LIMIT", 429, 100)], {}, OperationError, "It is LIMIT"),
        (
            [response(200, "Hello", kind="text/plain")],
            {},
            AddressError,
            "is not Treadle: it responds with HTTP 200",
        ),
        ([response(404, {"no": "result"})], {}, AddressError, "HTTP 404"),
        ([response(200, [1])], {}, AddressError, "HTTP 200"),
    ],
)
async def test_an_operation_that_cannot_succeed_in_time_raises_its_last_error(
    is_async: bool, responses: list[str], options: dict[str, Any], error: type[TreadleError], message: str
) -> None:
    async with scripted(*responses) as server:
        with pytest.raises(error, match=message):
            await execute(server, is_async, QUERY, **options)
        assert len(server.requests) == 1


@KINDS
@pytest.mark.parametrize("is_stream", [True, False])
@pytest.mark.parametrize(
    ("hostile", "message"),
    [
        (response(307, "", Location="http://127.0.0.1:9/graphql"), "redirects to http://127.0.0.1:9/graphql"),
        (response(200, "", Content_Encoding="gzip, gzip"), "compressed several times"),
        (response(200, {"data": {"done": "x" * 10_000}}), "larger than"),
    ],
    ids=["redirect", "codings", "size"],
)
async def test_a_response_that_no_server_sends_is_refused(
    is_async: bool, is_stream: bool, hostile: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "MAX_BODY", 5_000)
    async with scripted(hostile) as server:
        with pytest.raises(AddressError, match=message):
            await (watched(server, is_async) if is_stream else execute(server, is_async, QUERY))
        assert len(server.requests) == 1, "the token was sent once more"


@KINDS
async def test_an_event_that_no_server_sends_is_refused(is_async: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MAX_EVENT", 5_000)
    async with scripted(stream({"data": "x" * 10_000})) as server:
        with pytest.raises(AddressError, match=r"an event of .* is larger than 32 MiB"):
            await watched(server, is_async)
        assert len(server.requests) == 1, "the event was read once more"


@KINDS
async def test_an_address_without_a_server_is_an_error_after_the_time_for_retries(is_async: bool) -> None:
    async with scripted(DONE) as server:
        pass
    with pytest.raises(ServerUnavailable, match="no server responds at") as error:
        await execute(server, is_async, MUTATION, retry_s=0.3)
    assert not error.value.may_be_executed


@KINDS
async def test_each_pause_is_reported_and_respects_retry_after(is_async: bool) -> None:
    pauses: list[tuple[str, float]] = []

    def report(error: TreadleError, pause_s: float) -> None:
        pauses.append((type(error).__name__, pause_s))

    async with scripted(LOST, refused("LIMIT", 429, 0.5), DONE) as server:
        await execute(server, is_async, QUERY, on_retry=report)
    assert [name for name, _ in pauses] == ["ServerUnavailable", "OperationError"]
    assert 0.05 <= pauses[0][1] <= 0.1
    assert pauses[1][1] == 0.5


@KINDS
@pytest.mark.parametrize(("token", "requests"), [("fixed", 1), ("fresh", 2)])
async def test_a_refused_token_is_replaced_once_if_a_function_gives_tokens(
    is_async: bool, token: str, requests: int
) -> None:
    tokens = iter(["t1", "t2", "t3"])
    given: str | Callable[[], str] = "t1" if token == "fixed" else lambda: next(tokens)
    async with scripted(refused("UNAUTHENTICATED", 401)) as server:
        with pytest.raises(OperationError, match="UNAUTHENTICATED"):
            await execute(server, is_async, QUERY, token=given)
    sent = [headers["authorization"] for headers, _ in server.requests]
    assert sent == ["Bearer t1", "Bearer t2"][:requests]


async def test_a_token_may_come_from_a_coroutine() -> None:
    async def token() -> str:
        await asyncio.sleep(0)
        return "later"

    async with scripted(DONE) as server:
        await execute(server, True, QUERY, token=token)
    assert server.requests[0][0]["authorization"] == "Bearer later"


def update(seq: int, kind: str = "LogRecorded", **changes: Any) -> dict[str, Any]:
    """Create a message of `watch_run`."""
    message = Sample(document("WatchRun"), chosen={"RunUpdate": kind}).data()["runUpdates"]
    return {"data": {"runUpdates": {**message, "seq": seq, **changes}}}


def snapshot(seq: int, status: str) -> dict[str, Any]:
    message = update(seq, "RunSnapshot")
    message["data"]["runUpdates"]["run"]["status"] = status
    return message


END = update(9, "RunStatusChanged", status="COMPLETED")


async def watched(server: ScriptedServer, is_async: bool, **options: Any) -> list[tuple[str, int]]:
    """Return the type and number of each update."""
    if is_async:
        async with AsyncClient(server.url) as client:
            updates = [one async for one in client.watch_run("run_1", **options)]
    else:
        with Client(server.url) as blocking:
            updates = await asyncio.to_thread(lambda: list(blocking.watch_run("run_1", **options)))
    return [(one.typename, one.seq) for one in updates]


@KINDS
@pytest.mark.parametrize(
    "lost",
    [
        LOST,
        stream(),
        stream(update(2), update(3)),
        response(503, "no", kind="text/plain"),
        refused("UNAVAILABLE", 503),
        refused("LIMIT", 429, 0.01),
        stream(update(2), {"data": None, "errors": [{"message": "Away.", "extensions": {"code": "UNAVAILABLE"}}]}),
    ],
)
async def test_a_lost_stream_continues_after_the_last_number(is_async: bool, lost: str) -> None:
    # The server repeats events on purpose, which a real one does not.
    events = [update(seq) for seq in range(2, 5)]
    async with scripted(stream(snapshot(1, "RUNNING")), lost, stream(*events, END, is_complete=True)) as server:
        received = await watched(server, is_async)
    assert [seq for name, seq in received if name in NUMBERED] == [2, 3, 4, 9]
    afters = [body["variables"]["after"] for _, body in server.requests]
    assert afters[:2] == [None, 1]
    assert afters[2] == max(seq for _, seq in received if f'"seq": {seq}' in lost or seq == 1)


@KINDS
async def test_a_run_ends_with_its_terminal_status_and_what_follows_it(is_async: bool) -> None:
    last = update(9, "RunProgressed")
    async with scripted(stream(END, last, is_complete=True)) as server:
        assert await watched(server, is_async) == [("RunStatusChanged", 9), ("RunProgressed", 9)]
    async with scripted(stream(END)) as server:
        assert await watched(server, is_async) == [("RunStatusChanged", 9)]
    async with scripted(stream(snapshot(9, "FAILED"), is_complete=True)) as server:
        assert await watched(server, is_async) == [("RunSnapshot", 9)]


@KINDS
@pytest.mark.parametrize("status", ["COMPLETED", "RUNNING"])
async def test_a_stream_that_completes_without_an_end_asks_for_the_run(is_async: bool, status: str) -> None:
    run = Sample(document("Run")).data()
    run["run"]["status"] = status
    responses = [stream(is_complete=True), response(200, {"data": run}), stream(END, is_complete=True)]
    async with scripted(*responses) as server:
        received = await watched(server, is_async, after=8)
    assert received == ([] if status == "COMPLETED" else [("RunStatusChanged", 9)])


@KINDS
async def test_types_select_the_updates_and_the_end_is_still_noticed(is_async: bool) -> None:
    async with scripted(stream(update(2), END, is_complete=True)) as server:
        assert await watched(server, is_async, types=["LOG"]) == [("LogRecorded", 2)]
    assert server.requests[0][1]["variables"]["types"] == ["LOG", "RUN_STATUS"]


@KINDS
async def test_a_refused_stream_is_no_endless_loop(is_async: bool) -> None:
    for refusal in (
        refused("NOT_FOUND"),
        stream({"errors": [{"message": "No.", "extensions": {"code": "NOT_FOUND"}}]}),
    ):
        async with scripted(refusal) as server:
            with pytest.raises(OperationError) as error:
                await watched(server, is_async)
        assert (error.value.code, len(server.requests)) == ("NOT_FOUND", 1)
    async with scripted(response(200, "<html>", kind="text/html")) as server:
        with pytest.raises(AddressError):
            await watched(server, is_async)
