"""Answers of the server itself, in the shape of GraphQL errors, so that a client reads one kind of answer."""

import orjson
from starlette.responses import Response

from persistence.problems import ProblemCode


def problem_response(status: int, code: ProblemCode, message: str) -> Response:
    body = {"errors": [{"message": message, "extensions": {"code": code}}]}
    return Response(orjson.dumps(body), status_code=status, media_type="application/json")
