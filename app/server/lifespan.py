"""A start that fails because Postgres went away is told in one line: Starlette tells every failure by its traceback."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from persistence.db.transient import UnavailableAtStart

FAILED = "lifespan.startup.failed"


class OneLineStartupErrors:
    """An ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        failed: list[Message] = []

        async def held(message: Message) -> None:
            if message["type"] == FAILED:
                failed.append(message)
            else:
                await send(message)

        try:
            await self._app(scope, receive, held)
        except UnavailableAtStart as away:
            await send({"type": FAILED, "message": str(away)})
            raise
        except BaseException:
            for message in failed:
                await send(message)
            raise
