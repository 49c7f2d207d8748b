"""One system that is shared by all tests which do not stop its processes."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.end_to_end.support.system import ROOT, SystemUnderTest, copy_database, running
from tests.peers import chat
from tests.peers.http import Peer, http_peer

MODEL_KEY = "sk-canary-0123456789abcdef"


@pytest.fixture
def example_service() -> Iterator[str]:
    """The address of examples/server.py, which runs on a free port."""
    command = [sys.executable, str(ROOT / "examples" / "server.py"), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


@pytest.fixture(scope="session")
async def system(
    template: str, embedded: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[SystemUnderTest]:
    redis_url = embedded[1].replace("db=0", "db=1")
    catalog = tmp_path_factory.mktemp("catalog") / "treadle.toml"
    database_url = await copy_database(template, "end_to_end")
    catalog_text = (
        (ROOT / "examples" / "treadle.toml").read_text().replace('".venv/bin/python"', json.dumps(sys.executable))
    )
    catalog.write_text(f"{catalog_text}\n[sql.shop]\nurl = {json.dumps(database_url)}\nrequired_scopes = []\n")
    settings = {"http_allow": "127.0.0.1", "catalog_file": str(catalog)}
    async with running(database_url, redis_url, **settings) as system:
        yield system


@pytest.fixture(scope="session")
async def chat_peer() -> AsyncIterator[Peer]:
    """The endpoint of the models of `model_system`."""
    async with http_peer() as peer:
        yield peer


@pytest.fixture(scope="session")
async def model_system(template: str, embedded: tuple[str, str], chat_peer: Peer) -> AsyncIterator[SystemUnderTest]:
    """A system with models. A test may replace its worker by another one."""
    shared = {"base_url": f"{chat_peer.url}/v1", "api_key": MODEL_KEY, "price": {"input": 2, "output": 10}}
    models = [{"name": name, **shared} for name in chat.MODELS]
    urls = await copy_database(template, "with_models"), embedded[1].replace("db=0", "db=2")
    async with running(*urls, models=json.dumps(models), http_allow="127.0.0.1") as system:
        yield system
