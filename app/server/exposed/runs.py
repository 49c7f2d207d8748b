"""Runs of exposed workflows over plain HTTP.

- `POST /run/<name>` starts a run with the body as its inputs, and waits for its end.
- `GET /run/runs/<id>` reads it, and `POST /run/runs/<id>/cancel` cancels it.

A run is accepted in one transaction before anything is sent, so a lost connection loses no run: the
address of the run, or the same `Idempotency-Key`, leads to it.
"""

import re
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.server.exposed.guard import RequestGuard
from app.server.negotiation import PLAIN_JSON
from app.server.operations import RequestRefused, read_json
from app.server.responses import json_response
from engine.states import RunStatus
from persistence.db.json_text import JsonText
from persistence.runs.run import Run
from resolvers.checks import MAX_WAIT_MS
from resolvers.context import Context
from resolvers.runs import control, exposed
from resolvers.runs.exposed import ExposedCall

START_POINTS, READ_POINTS = 13, 3
"""What the same operations cost over GraphQL."""
WAIT_MS = 30_000
"""How long a call waits for the end of its run by default."""
RETRY_AFTER_S = 1
"""Seconds after which the run of a 202 may be read."""
_WAIT = re.compile(r"wait=(\d{1,9})")


class RunRoutes:
    """The routes of runs of exposed workflows."""

    def __init__(self, guard: RequestGuard, public_url: str) -> None:
        """`public_url` is the address at which clients reach the server, without a slash at its end."""
        self._guard, self._public_url = guard, public_url

    def routes(self) -> list[Route]:
        guarded = self._guard.guarded
        return [
            Route("/run/runs/{id}", guarded(self.read, READ_POINTS), methods=["GET"]),
            Route("/run/runs/{id}/cancel", guarded(self.cancel, START_POINTS), methods=["POST"]),
            Route("/run/{name}", guarded(self.start, START_POINTS), methods=["POST"]),
        ]

    async def start(self, request: Request, context: Context) -> Response:
        """Start a run, and wait for its end unless the client prefers not to."""
        call = ExposedCall(
            request.path_params["name"],
            await read_json(request, context) if await request.body() else {},
            request.query_params.get("project"),
            wait_ms(request),
            request.headers.get("idempotency-key"),
        )
        run = await exposed.run_exposed(context, "http", call)
        return await self._respond(context, run, 200 if run.status is RunStatus.COMPLETED else _status_of(run))

    async def read(self, request: Request, context: Context) -> Response:
        return await self._respond(context, await exposed.read_run(context, request.path_params["id"]), 200)

    async def cancel(self, request: Request, context: Context) -> Response:
        """Cancel a run: 200 if it has stopped, 202 if its code is still stopping."""
        run = await control.cancel_run(context, request.path_params["id"], None, None)
        return await self._respond(context, run, 200 if run.status.is_terminal else 202)

    async def _respond(self, context: Context, run: Run, status: int) -> Response:
        location = f"{self._public_url}/run/runs/{run.id}"
        headers = {"Cache-Control": "no-store", "Location": location}
        if status == 202:
            headers["Retry-After"] = str(RETRY_AFTER_S)
        body = orjson.dumps(await exposed.report(context, run), default=_encoded, option=orjson.OPT_UTC_Z)
        return json_response(body, status, PLAIN_JSON, headers)


def _status_of(run: Run) -> int:
    """Return the HTTP status for a run that has no output: as for webhooks, a failed run is an error."""
    return 500 if run.status.is_terminal else 202


def wait_ms(request: Request) -> int:
    """Return how long to wait for the end of the run, in milliseconds, by the header `Prefer` (RFC 7240).

    `respond-async` waits for nothing, and `wait=N` for N seconds. Other preferences are ignored.

    Raises:
        RequestRefused: The time is too long.
    """
    preferences = [one.strip().lower() for one in ",".join(request.headers.getlist("prefer")).split(",")]
    if "respond-async" in preferences:
        return 0
    times = [int(match[1]) * 1000 for one in preferences if (match := _WAIT.fullmatch(one))]
    if times and times[0] > MAX_WAIT_MS:
        raise RequestRefused(400, f"`Prefer: wait` must be at most {MAX_WAIT_MS // 1000} seconds.")
    return times[0] if times else WAIT_MS


def _encoded(value: object) -> Any:
    if isinstance(value, JsonText):
        return orjson.Fragment(value.text)
    raise TypeError(type(value).__name__)
