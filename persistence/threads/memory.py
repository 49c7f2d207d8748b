"""`ThreadStore`: the resource `threads` of nodes, which reads the last messages of a thread.

It only reads: the journal appends messages in the commit of the visit that made them.
"""

import asyncpg

from engine.sdk.node import ThreadMessage
from persistence.db.transient import retry_transient

MAX_MESSAGES = 1_000
"""Most messages of a window, however short they are."""
STATEMENT_S = 30.0
"""Timeout of the statement, in seconds."""


class ThreadStore:
    """The resource `threads` of nodes."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def load(self, project_id: str, key: str, max_tokens: int) -> list[ThreadMessage]:
        """Return the last messages that fit the window, oldest first, from the first one of a user on."""
        rows = await retry_transient(
            lambda: self._pool.fetch(_WINDOW, project_id, key, max_tokens, MAX_MESSAGES, timeout=STATEMENT_S), "threads"
        )
        messages = [ThreadMessage(row["role"], row["content"]) for row in rows]
        first = next((place for place, message in enumerate(messages) if message.role == "user"), len(messages))
        return messages[first:]


_WINDOW = """
SELECT role, content FROM (
    SELECT number, role, content, sum(tokens) OVER (ORDER BY number DESC) AS total FROM (
        SELECT m.number, m.role, m.content, m.tokens FROM thread_messages m JOIN threads t ON t.id = m.thread_id
        WHERE t.project_id = $1 AND t.key = $2 ORDER BY m.number DESC LIMIT $4
    ) newest
) counted WHERE total <= $3 ORDER BY number
"""
