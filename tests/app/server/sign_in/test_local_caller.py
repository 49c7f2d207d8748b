"""Without sign-in, every project is accessible: one of this server at once, one of another within 2 s."""

import asyncio
import time

import asyncpg
import httpx

from app.settings import Settings
from tests.app_server import serving

CREATE = 'mutation { createProject(input: {name: "%s"}) { project { id } errors { detail } } }'
NAMES = "{ viewer { projects { name } } }"


async def test_projects_of_this_and_of_other_servers_are_accessible(database_url: str, redis_url: str) -> None:
    async with (
        serving(Settings(database_url=database_url, redis_url=redis_url)) as address,
        httpx.AsyncClient(base_url=f"http://{address}") as client,
    ):

        async def names() -> set[str]:
            answer = (await client.post("/graphql", json={"query": NAMES})).json()
            return {project["name"] for project in answer["data"]["viewer"]["projects"]}

        for name in ("one", "two"):
            await client.post("/graphql", json={"query": CREATE % name})
            assert name in await names()
        other = await asyncpg.connect(database_url)
        await other.execute("INSERT INTO projects (id, name) SELECT 'prj_' || repeat('1', 26), 'three'")
        await other.close()
        created_at = time.monotonic()
        async with asyncio.timeout(10):
            while "three" not in await names():
                pass
        assert time.monotonic() - created_at < 5
