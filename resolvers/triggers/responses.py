"""The responses to requests of webhooks: refusals, and what a workflow answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.states import RunStatus
from engine.types import JSON
from persistence.runs.run import Run

_OWN_HEADERS = frozenset(
    {"connection", "content-length", "content-security-policy", "date", "server", "set-cookie", "transfer-encoding"}
)


@dataclass(frozen=True, slots=True)
class HookResponse:
    """The response to a request. `body` is JSON, or a text as it is."""

    status: int
    body: JSON
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):
    """The request starts no run. `status` is that of the response."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


def refusal(status: int, reason: str, headers: Mapping[str, str] | None = None) -> HookResponse:
    return HookResponse(status, {"error": f"{reason[0].upper()}{reason[1:]}."}, headers or {})


def run_response(run: Run, accepted: HookResponse) -> HookResponse:
    """Return the output of a run that has ended as the response; `accepted` before its end."""
    if run.status is RunStatus.COMPLETED:
        output = run.output
        if isinstance(output, dict) and output.keys() <= {"status", "headers", "body"} and _is_status(output):
            headers = output.get("headers")
            texts = headers.items() if isinstance(headers, dict) else ()
            clean = {name: value for name, value in texts if isinstance(value, str) and _is_header(name, value)}
            return HookResponse(output["status"], output.get("body"), clean)
        return HookResponse(200, output)
    if not run.status.is_terminal:
        return accepted
    error = None if run.error is None else {"code": run.error.code, "message": run.error.message}
    return HookResponse(500, {"runId": run.id, "status": run.status, "error": error})


def _is_status(output: dict[str, Any]) -> bool:
    status = output.get("status")
    return isinstance(status, int) and not isinstance(status, bool) and 200 <= status <= 599


def _is_header(name: str, value: str) -> bool:
    """Whether a workflow may set a header: one of the message, without line breaks."""
    is_plain = name.replace("-", "").isalnum() and name.isascii() and value.isascii() and value.isprintable()
    return is_plain and name.lower() not in _OWN_HEADERS
