"""ASGI middleware that reports a start which fails because Postgres is unavailable in one line.

Starlette reports every failed start with a traceback.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from persistence.db.transient import UnavailableAtStart

FAILED = "lifespan.startup.failed"


class OneLineStartupErrors:
    """Replaces the traceback of an `UnavailableAtStart` by its message.

    Other failures pass unchanged.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        failures: list[Message] = []

        async def send_unless_failed(message: Message) -> None:
            if message["type"] == FAILED:
                failures.append(message)
            else:
                await send(message)

        try:
            await self._app(scope, receive, send_unless_failed)
        except UnavailableAtStart as error:
            await send({"type": FAILED, "message": str(error)})
            raise
        except BaseException:
            for message in failures:
                await send(message)
            raise
