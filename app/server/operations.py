"""GraphQL over HTTP: reads the operation of a request, executes it, and creates the response.

It follows the draft "GraphQL over HTTP", and adds event streams (`streams`). `endpoint` calls it
after its checks of the caller. A broken connection ends its own subscription and nothing else.
"""

import json
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, cast

import orjson
from starlette.requests import Request
from starlette.responses import Response
from strawberry.exceptions import MissingQueryError
from strawberry.schema.exceptions import InvalidOperationTypeError
from strawberry.types import ExecutionResult
from strawberry.types.execution import PreExecutionError
from strawberry.types.graphql import OperationType

from app.server.body_limit import LARGE, decoded_in_turn
from app.server.documents import DocumentRefused, TrustedDocuments
from app.server.negotiation import PLAIN_JSON, RESPONSE_JSON, Acceptable, acceptable
from app.server.responses import problem_response, result_response
from app.server.streams import stream_response
from engine.isolation.turns import Owner, current_owner
from engine.values.json_text import NotJson, without_mark
from persistence.problems import ProblemCode
from resolvers.context import Context
from schema.schema import SubscriptionNotStreamedError, schema

METHODS = ("GET", "HEAD", "OPTIONS", "POST")
ALLOW = {"Allow": ", ".join(METHODS)}
ACCEPT_HELP = (
    f"Responses are {RESPONSE_JSON}, {PLAIN_JSON}, or an event stream (text/event-stream, or "
    "multipart/mixed;subscriptionSpec=1.0), and the header `Accept` excludes all of them."
)
MEMBERS: tuple[tuple[str, type, str], ...] = (
    ("query", str, "a string"),
    ("documentId", str, "a string"),
    ("operationName", str, "a string"),
    ("variables", dict, "an object"),
    ("extensions", dict, "an object"),
)
LAST_EVENT = re.compile("[0-9]{1,9}")
"""`Last-Event-ID` with a number of an event of a run."""


class RequestRefused(Exception):
    """A request that carries no operation which can be executed. Its response says why."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers

    @property
    def code(self) -> ProblemCode:
        codes = {403: ProblemCode.FORBIDDEN, 413: ProblemCode.LIMIT}
        return codes.get(self.status, ProblemCode.VALIDATION)

    def response(self, media_type: str) -> Response:
        return problem_response(self.status, self.code, self.message, self.headers, media_type)


@dataclass(frozen=True, slots=True)
class HttpOperation:
    """The members of a request of GraphQL over HTTP."""

    query: str
    operation_name: str | None = None
    variables: dict[str, Any] | None = None
    extensions: dict[str, Any] | None = None


async def respond(request: Request, context: Context, documents: TrustedDocuments) -> Response:
    """Execute the operation of a request, which may name a trusted document.

    Raises Problem and ClientDisconnect.
    """
    if request.method == "OPTIONS":
        return Response(status_code=204, headers=ALLOW)
    accepted = acceptable(request.headers.get("accept"))
    try:
        if accepted.json is None and accepted.stream is None:
            raise RequestRefused(406, ACCEPT_HELP)
        context.last_event = _last_event(request)
        working_for_caller(context)
        return await _execute(request, await read_operation(request, context, documents), context, accepted)
    except RequestRefused as refused:
        return refused.response(accepted.json or PLAIN_JSON)
    except DocumentRefused as refused:
        result = PreExecutionError(data=None, errors=[refused.error])
        return await result_response(request, result, accepted.json or PLAIN_JSON)


def working_for_caller(context: Context) -> None:
    """Set the owner of the work of this task: the turns of a server are those of its callers."""
    subject = context.caller.subject
    current_owner.set(Owner(subject, subject))


async def read_operation(request: Request, context: Context, documents: TrustedDocuments) -> HttpOperation:
    """Read the operation of a GET or POST request. Raises RequestRefused, DocumentRefused and Limit."""
    if request.method not in METHODS:
        raise RequestRefused(405, f"Operations are sent by GET or POST, not by {request.method}.", ALLOW)
    if request.method == "POST":
        members = await read_json(request, context)
    else:
        members = _query_parameters(request)
    if isinstance(members, list):
        raise RequestRefused(400, "Batches are not supported: send one operation, as a JSON object, per request.")
    if not isinstance(members, dict):
        raise RequestRefused(400, "An operation must be a JSON object with the member `query`.")
    return _operation(members, documents)


async def read_json(request: Request, context: Context) -> Any:
    """Read a JSON body; a large one is parsed when it is the turn of its caller. Raises RequestRefused, Limit."""
    _check_content_type(request.headers.get("content-type", ""))
    _check_content_coding(request.headers.get("content-encoding", ""))
    try:
        return await decode(await request.body(), context.caller.subject)
    except json.JSONDecodeError as error:
        raise _not_json(error, "The request body") from error


def parse(text: str | bytes, place: str) -> Any:
    """Parse JSON of a client. Raises RequestRefused."""
    try:
        return decode_json(text)
    except json.JSONDecodeError as error:
        raise _not_json(error, place) from error


def _not_json(error: json.JSONDecodeError, place: str) -> RequestRefused:
    return RequestRefused(400, f"{place} is not valid JSON: {error.msg[:100]}.")


async def decode(data: str | bytes, subject: str) -> object:
    """Parse JSON as `decode_json` does; a large text in a thread, when it is the turn of its sender.

    Raises Limit for a text with too many lists and objects.
    """
    return await decoded_in_turn(decode_json, data, subject) if len(data) > LARGE else decode_json(data)


def decode_json(data: str | bytes) -> object:
    """Parse JSON.

    Raises JSONDecodeError for every error, also for NaN, deep nesting and huge numbers.
    """
    try:
        return _DECODER.decode(without_mark(data))
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise json.JSONDecodeError(_decode_reason(error), "", 0) from error


def _decode_reason(error: Exception) -> str:
    match error:
        case NotJson(__cause__=UnicodeDecodeError() as cause):
            return f"its byte {cause.start} is not {cause.encoding.upper()}"
        case RecursionError():
            return "it is nested too deeply"
    return str(error)


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not valid JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
"""One for all requests, because to make one costs as much as to parse a small body."""


def _check_content_type(content_type: str) -> None:
    media_type, *parameters = (part.strip().lower() for part in content_type.split(";"))
    charset = next((one.partition("=")[2].strip(' "') for one in parameters if one.startswith("charset")), "utf-8")
    if media_type != PLAIN_JSON or charset not in ("utf-8", "utf8"):
        found = f"not {content_type[:100]!r}" if content_type else "which the header `Content-Type` must say"
        raise RequestRefused(
            415, f"The body of an operation is {PLAIN_JSON} in UTF-8, {found}.", {"Accept": PLAIN_JSON}
        )


def _check_content_coding(coding: str) -> None:
    """Refuse a compressed body (RFC 9110, section 15.5.16): its size would say nothing about its content."""
    if coding.strip().lower() not in ("", "identity"):
        message = f"The body of an operation is sent without a content coding, not with {coding[:100]!r}."
        raise RequestRefused(415, message, {"Accept-Encoding": "identity"})


def _query_parameters(request: Request) -> dict[str, Any]:
    """Return the members in the URL. An empty parameter counts as absent."""
    members: dict[str, Any] = {name: value for name, value in request.query_params.items() if value}
    for name in ("variables", "extensions"):
        if name in members:
            members[name] = parse(members[name], f"The parameter `{name}`")
    return members


def _operation(members: dict[str, Any], documents: TrustedDocuments) -> HttpOperation:
    for name, kind, description in MEMBERS:
        if not isinstance(members.get(name), kind | None):
            raise RequestRefused(400, f"The operation's `{name}` must be {description} or null.")
    text = documents.text_of(members)
    if text is None:
        raise RequestRefused(400, "The request has no GraphQL operation: `query` is missing or empty.")
    return HttpOperation(text, members.get("operationName"), members.get("variables"), members.get("extensions"))


def _last_event(request: Request) -> int | None:
    last_event = request.headers.get("last-event-id")
    if not last_event:
        return None
    if not LAST_EVENT.fullmatch(last_event):
        raise RequestRefused(400, "`Last-Event-ID` must be the number of an event, as sent in a line `id`.")
    return int(last_event)


async def _execute(request: Request, operation: HttpOperation, context: Context, accepted: Acceptable) -> Response:
    """Execute once, as JSON if that is acceptable; a subscription as a stream."""
    arguments: dict[str, Any] = {
        "variable_values": operation.variables,
        "context_value": context,
        "operation_name": operation.operation_name,
        "operation_extensions": operation.extensions,
        "allowed_operation_types": _allowed(request),
    }
    if accepted.json is not None:
        try:
            result = await schema.execute(operation.query, **arguments)
            return await result_response(request, result, accepted.json)
        except SubscriptionNotStreamedError as error:
            if accepted.stream is None:
                raise RequestRefused(400, error.as_http_error_reason(request.method)) from error
        except InvalidOperationTypeError as error:
            raise RequestRefused(405, "Mutations are sent by POST, not by GET.", {"Allow": "POST"}) from error
        except MissingQueryError as error:
            raise RequestRefused(400, "The request has no GraphQL operation.") from error
    assert accepted.stream is not None
    results = cast("AsyncGenerator[ExecutionResult]", await schema.stream(operation.query, **arguments))
    return stream_response(results, context, accepted.stream)


def _allowed(request: Request) -> set[OperationType]:
    """Return the types of operations that the method may run: GET changes nothing."""
    by_get = {OperationType.QUERY, OperationType.SUBSCRIPTION}
    return set(OperationType) if request.method == "POST" else by_get


def encode_json(data: object) -> str:
    """Serialise to text, because graphql-transport-ws has no binary frames."""
    return orjson.dumps(data).decode()
