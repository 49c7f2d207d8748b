"""A secret, and the resource `secrets` in memory."""

from collections.abc import Collection

from engine.errors import NodeFailure

VALUE = "sk-canary-81kQz0pLw2"


class MemorySecrets:
    """The resource `secrets` in memory. `calls` counts the calls of `resolve`."""

    def __init__(self, **values: str) -> None:
        self.values, self.calls = values, 0

    async def resolve(self, project_id: str, names: Collection[str]) -> dict[str, str]:
        self.calls += 1
        if missing := sorted(set(names) - self.values.keys()):
            raise NodeFailure("SECRET", f"there is no secret {missing[0]!r}")
        return {name: self.values[name] for name in names}
