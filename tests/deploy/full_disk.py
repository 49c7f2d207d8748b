"""Fills the disk under an embedded Postgres, and checks that nothing accepted is lost; `make full-disk` runs it.

It mounts a small file system in a mount namespace of its own, so it needs root.
"""

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx

from app.embedded.servers import servers
from app.settings import Settings
from persistence.db.migrate import migrate
from tests.app_server import serving

INSIDE = "OWN_MOUNT_NAMESPACE"
SPEC = {"nodes": [{"id": "a", "type": "transform", "config": {"output": 1}}], "edges": []}
RUN = "mutation ($spec: JSON!, $inputs: JSON!) { runAdhoc(input: {spec: $spec, inputs: $inputs}) { run { id } } }"
LARGE = 500_000
"""Characters of the inputs of a run. Small ones still fit into pages that Postgres has already."""
MOST = 200


def main() -> None:
    if INSIDE not in os.environ:
        command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", "tests.deploy.full_disk"]
        os.execvpe(command[0], command, {**os.environ, INSIDE: "1"})
    with tempfile.TemporaryDirectory(prefix="treadle-disk-", dir="/var/tmp") as home:
        folder = Path(home)
        os.system(f"mount -t tmpfs -o size=140m,mode=0711 tmpfs {folder}")
        try:
            with servers(folder, durable=False) as urls:
                asyncio.run(_check(folder, *urls))
        finally:
            os.system(f"umount --lazy {folder}")
    sys.stdout.write("full disk: every accepted run is there, and the server continued after space was freed\n")


async def _check(folder: Path, database_url: str, redis_url: str) -> None:
    await migrate(database_url)
    settings = Settings(database_url=database_url, redis_url=redis_url)
    async with serving(settings) as address, httpx.AsyncClient(base_url=f"http://{address}", timeout=60) as client:
        accepted = [await _run(client, 1)]
        filler = folder / "filler"
        _fill(filler)
        refused: dict[str, Any] = {}
        while not refused and len(accepted) < MOST:
            answer = await _run(client, LARGE)
            refused = answer if isinstance(answer, dict) else {}
            accepted += [] if refused else [answer]
        assert refused["extensions"]["code"] == "UNAVAILABLE", refused
        assert refused["message"].startswith("The disk of the database is full. Nothing was stored"), refused
        filler.unlink()
        accepted.append(await _run(client, LARGE))
        query = "query ($ids: [ID!]!) { nodes(ids: $ids) { id } }"
        ids = accepted[-100:]
        body = (await client.post("/graphql", json={"query": query, "variables": {"ids": ids}})).json()
        assert [one["id"] for one in body["data"]["nodes"]] == ids


async def _run(client: httpx.AsyncClient, size: int) -> Any:
    """Return the id of a new run, or the error."""
    variables = {"spec": SPEC, "inputs": {"text": os.urandom(size // 2).hex()}}
    body = (await client.post("/graphql", json={"query": RUN, "variables": variables})).json()
    return body["errors"][0] if body.get("errors") else body["data"]["runAdhoc"]["run"]["id"]


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 65_536):
                continue
        except OSError:
            return


if __name__ == "__main__":
    main()
