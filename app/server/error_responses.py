"""Error responses that the server sends outside of GraphQL, in the shape of GraphQL errors.

Clients therefore need to handle only one shape of errors.
"""

import orjson
from starlette.responses import Response

from persistence.problems import ProblemCode


def problem_response(status: int, code: ProblemCode, message: str) -> Response:
    """Create a JSON response with one GraphQL error.

    Args:
        status: The HTTP status.
        code: The code in `extensions`.
        message: The message for the client.
    """
    body = {"errors": [{"message": message, "extensions": {"code": code}}]}
    return Response(orjson.dumps(body), status_code=status, media_type="application/json")
