"""One system that is shared by all tests which do not stop its processes."""

import json
import sys
from collections.abc import AsyncIterator

import pytest

from tests.end_to_end.support.system import ROOT, SystemUnderTest, copy_database, running


@pytest.fixture(scope="session")
async def system(
    template: str, embedded: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[SystemUnderTest]:
    redis_url = embedded[1].replace("db=0", "db=1")
    catalog = tmp_path_factory.mktemp("catalog") / "treadle.toml"
    database_url = await copy_database(template, "end_to_end")
    catalog_text = (ROOT / "examples" / "treadle.toml").read_text().replace('"python"', json.dumps(sys.executable))
    catalog.write_text(f"{catalog_text}\n[sql.shop]\nurl = {json.dumps(database_url)}\nrequired_scopes = []\n")
    settings = {"http_allow": "127.0.0.1", "catalog_file": str(catalog)}
    async with running(database_url, redis_url, **settings) as system:
        yield system
