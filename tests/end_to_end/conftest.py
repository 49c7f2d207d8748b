"""One system for the tests that leave it standing."""

import json
import sys
from collections.abc import AsyncIterator

import pytest

from tests.end_to_end.system import ROOT, System, copied, running


@pytest.fixture(scope="session")
async def system(
    template: str, embedded: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[System]:
    redis_url = embedded[1].replace("db=0", "db=1")
    catalog = tmp_path_factory.mktemp("catalog") / "treadle.toml"
    database_url = await copied(template, "end_to_end")
    listed = (ROOT / "examples" / "treadle.toml").read_text().replace('"python"', json.dumps(sys.executable))
    catalog.write_text(f"{listed}\n[sql.shop]\nurl = {json.dumps(database_url)}\nrequired_scopes = []\n")
    settings = {"http_allow": "127.0.0.1", "catalog_file": str(catalog)}
    async with running(database_url, redis_url, **settings) as system:
        yield system
