"""The fixtures of triggers that poll."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.settings import Settings
from engine.nodes.http.addresses import Allowed
from engine.nodes.http.client import GuardedHttp
from persistence.caller import Caller
from persistence.db.database import Database
from persistence.secrets.key_source import KeySource
from persistence.secrets.resolver import open_secrets
from tests.peers.http import Peer
from tests.peers.redis_proxy import redis_at_tcp
from tests.persistence.triggers.polled_source import PolledSource


@pytest.fixture
async def source(database: Database, caller: Caller, project: str, peer: Peer, tmp_path: Path) -> PolledSource:
    secrets = await open_secrets(database, KeySource.of(Settings(data_dir=tmp_path)))
    http = GuardedHttp(Allowed.parse("127.0.0.1"))
    source = PolledSource(database, caller, project, peer, {"http": http, "secrets": secrets})
    await source.put_secret("token", "the token of the source")
    return source


@pytest.fixture
async def stream_url(redis_url: str) -> AsyncIterator[str]:
    """The TCP address of the Redis of the tests."""
    async with redis_at_tcp(redis_url) as url:
        yield url
