"""The OpenAPI 3.1 document of the exposed workflows that a caller may run.

It is made from the published versions at each request: their `inputs` are JSON Schemas already, of the draft
that OpenAPI 3.1 uses. Nothing is stored.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.server.exposed.guard import RequestGuard
from app.server.negotiation import PLAIN_JSON
from app.server.responses import json_response
from engine.isolation.computation import compute
from engine.release import VERSION
from engine.states import RunStatus
from engine.types import JSON
from persistence.caller import CallerKind
from persistence.problems import ProblemCode
from resolvers.context import Context
from resolvers.workflows.exposures import ExposedSchemas, list_exposed, schemas_of

POINTS = 20
"""The price of the document. The schemas of all its workflows are read."""
_REFERENCES = ("$ref", "$dynamicRef")
_VALUES = ("const", "enum", "default", "examples")
"""Keywords whose values are data."""
_BY_NAME = ("properties", "patternProperties", "$defs", "dependentSchemas")
"""Keywords whose members have names of the author."""
_NULLABLE_TEXT = {"type": ["string", "null"]}
_PROBLEMS: dict[str, Any] = {
    "type": "object",
    "description": "The shape of GraphQL errors.",
    "required": ["errors"],
    "properties": {
        "errors": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["message", "extensions"],
                "properties": {
                    "message": {"type": "string"},
                    "extensions": {
                        "type": "object",
                        "required": ["code"],
                        "properties": {
                            "code": {"enum": list(ProblemCode)},
                            "errors": {"type": "array", "items": {"type": "object"}},
                            "retryAfterS": {"type": "integer"},
                            "requestId": {"type": "string"},
                        },
                    },
                },
            },
        }
    },
}
_ERROR: dict[str, Any] = {
    "type": ["object", "null"],
    "description": "Why the run failed.",
    "required": ["code", "message", "nodeId"],
    "properties": {"code": {"type": "string"}, "message": {"type": "string"}, "nodeId": _NULLABLE_TEXT},
}
_QUESTION: dict[str, Any] = {
    "type": "object",
    "description": "A question that waits for an answer of the caller, by the mutation resumeRun.",
    "required": ["waitId", "nodeId", "prompt", "schema", "expiresAt"],
    "properties": {
        "waitId": {"type": "string"},
        "nodeId": {"type": "string"},
        "prompt": {},
        "schema": {"description": "The JSON Schema of the answer, or null."},
        "expiresAt": {**_NULLABLE_TEXT, "format": "date-time"},
    },
}
_PARAMETERS: dict[str, Any] = {
    "Prefer": {
        "name": "Prefer",
        "in": "header",
        "description": "`respond-async` returns when the run is accepted; `wait=N` waits N seconds, at most 600. Default: 30.",
        "schema": {"type": "string", "pattern": "^(respond-async|wait=([0-9]|[1-9][0-9]|[1-5][0-9][0-9]|600))$"},
    },
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "A repeat with the same key and inputs within 24 hours returns the run of the first call.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    },
    "Project": {
        "name": "project",
        "in": "query",
        "description": "The id or the name of the project, if several of your projects expose the name.",
        "schema": {"type": "string", "pattern": "^prj_[0-9a-z]{26}$"},
    },
    "RunId": {
        "name": "id",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": "^run_[0-9a-z]{26}$"},
    },
}


class OpenApiRoute:
    """The route of the document."""

    def __init__(self, guard: RequestGuard, public_url: str) -> None:
        self._guard, self._public_url = guard, public_url

    def routes(self) -> list[Route]:
        return [Route("/run/openapi.json", self._guard.guarded(self.document, POINTS), methods=["GET"])]

    async def document(self, request: Request, context: Context) -> Response:
        """Return the document of the caller."""
        found = await list_exposed(context, project=request.query_params.get("project"))
        by_http = await schemas_of(context, [one for one in found if one.exposure.http])
        has_sign_in = context.caller.kind is not CallerKind.LOCAL
        # Schemas of 4 MiB take a second.
        body = await compute(lambda: orjson.dumps(make_document(by_http, self._public_url, has_sign_in=has_sign_in)))
        return json_response(body, 200, PLAIN_JSON, {"Cache-Control": "no-store"})


def make_document(exposed: Sequence[ExposedSchemas], server_url: str, *, has_sign_in: bool) -> dict[str, Any]:
    """Return the OpenAPI document of exposed workflows.

    Names that several projects expose are left out: a document of one project has them.
    """
    counts = Counter(one.exposure.name for one in exposed)
    chosen = [one for one in exposed if counts[one.exposure.name] == 1]
    schemas: dict[str, Any] = {"Problems": _PROBLEMS, "RunError": _ERROR, "Question": _QUESTION, "Run": _run_schema({})}
    for one in chosen:
        name = one.exposure.name
        schemas[f"{name}.inputs"] = _moved(one.inputs, f"#/components/schemas/{name}.inputs")
        schemas[f"{name}.run"] = _run_schema(one.output)
    security = {"bearer": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Exposed workflows of Treadle", "version": VERSION},
        "servers": [{"url": server_url}],
        "paths": {f"/run/{one.exposure.name}": {"post": _start(one)} for one in chosen} | _RUN_PATHS,
        "components": {
            "schemas": schemas,
            "parameters": _PARAMETERS,
            **({"securitySchemes": security} if has_sign_in else {}),
        },
        **({"security": [{"bearer": []}]} if has_sign_in else {}),
    }


def _start(one: ExposedSchemas) -> dict[str, Any]:
    """Return the operation that starts a run of a workflow."""
    name = one.exposure.name
    run = {"$ref": f"#/components/schemas/{name}.run"}
    failed = _content({"anyOf": [run, {"$ref": "#/components/schemas/Problems"}]})
    return {
        "operationId": name,
        "description": one.exposure.description,
        "parameters": [{"$ref": f"#/components/parameters/{one}"} for one in ("Prefer", "IdempotencyKey", "Project")],
        "requestBody": {"content": _content({"$ref": f"#/components/schemas/{name}.inputs"})},
        "responses": {
            "200": {"description": "The run has completed.", "content": _content(run)},
            "202": {"description": "The run is accepted, and has not ended.", "content": _content(run)},
            "500": {
                "description": "The run has failed or was cancelled, or the server has a fault.",
                "content": failed,
            },
            "default": _REFUSED,
        },
    }


def _content(schema: JSON) -> dict[str, Any]:
    return {PLAIN_JSON: {"schema": schema}}


_REFUSED = {"description": "Nothing was done.", "content": _content({"$ref": "#/components/schemas/Problems"})}
_RUN = _content({"$ref": "#/components/schemas/Run"})
_RUN_ID = [{"$ref": "#/components/parameters/RunId"}]
_RUN_PATHS: dict[str, Any] = {
    "/run/runs/{id}": {
        "get": {
            "operationId": "runs.read",
            "description": "Reads the status and the output of a run.",
            "parameters": _RUN_ID,
            "responses": {"200": {"description": "The run.", "content": _RUN}, "default": _REFUSED},
        }
    },
    "/run/runs/{id}/cancel": {
        "post": {
            "operationId": "runs.cancel",
            "description": "Cancels a run.",
            "parameters": _RUN_ID,
            "responses": {
                "200": {"description": "The run is cancelled.", "content": _RUN},
                "202": {"description": "The code of the run is still stopping.", "content": _RUN},
                "default": _REFUSED,
            },
        }
    },
}


def _run_schema(output: JSON) -> dict[str, Any]:
    """Return the schema of a run with the schema of its output."""
    moment = {"type": "string", "format": "date-time"}
    properties: dict[str, Any] = {
        "runId": {"type": "string"},
        "status": {"enum": list(RunStatus)},
        "output": {"description": "Null unless the run is COMPLETED.", "anyOf": [output, {"type": "null"}]},
        "error": {"$ref": "#/components/schemas/RunError"},
        "questions": {"type": "array", "items": {"$ref": "#/components/schemas/Question"}},
        "createdAt": moment,
        "finishedAt": {"type": ["string", "null"], "format": "date-time"},
    }
    return {"type": "object", "required": list(properties), "properties": properties}


def _moved(schema: JSON, place: str) -> JSON:
    """Return a schema whose references to itself are right where it is a part of a document."""

    def reference(text: str) -> str:
        return place + text.removeprefix("#") if text == "#" or text.startswith("#/") else text

    return _with_references(schema, reference)


def _with_references(value: JSON, change: Callable[[str], str]) -> JSON:
    if isinstance(value, list):
        return [_with_references(item, change) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _changed_member(key, item, change) for key, item in value.items()}


def _changed_member(key: str, item: JSON, change: Callable[[str], str]) -> JSON:
    if key in _REFERENCES and isinstance(item, str):
        return change(item)
    if key in _VALUES:
        return item
    if key in _BY_NAME and isinstance(item, dict):
        return {name: _with_references(schema, change) for name, schema in item.items()}
    return _with_references(item, change)
