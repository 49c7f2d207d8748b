"""Each client runs a query, a mutation, a subscription if it can, and an invalid query."""

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import gql
import gql.transport.exceptions
import gql.transport.httpx
import gql.transport.websockets
import pytest

from tests.clients.installed import FOLDER, PACKAGES, node_with_packages, run_script

SCRIPTS: dict[tuple[str, ...], bool] = {
    ("graphql_ws.mjs",): True,
    ("graphql_sse.mjs",): True,
    ("graphql_request.mjs",): False,
    ("executor_http.mjs",): True,
    ("urql.mjs", "post"): True,
    ("urql.mjs", "get"): True,
    ("apollo.mjs",): True,
}
"""Whether the client has subscriptions, by script and arguments."""
RELAY_CONFIG = {"src": ".", "schema": "schema.graphql", "language": "javascript", "eagerEsModules": True}
REFUSED = {"message": "Cannot query field 'nothing' on type 'Query'.", "code": "VALIDATION"}


@pytest.mark.parametrize(("script", "subscribes"), SCRIPTS.items(), ids=lambda value: str(value))
async def test_a_client_runs_every_kind_of_operation(address: str, script: tuple[str, ...], subscribes: bool) -> None:
    name, *arguments = script
    report: dict[str, Any] = await asyncio.to_thread(run_script, name, f"http://{address}/graphql", *arguments)
    assert (report["subject"], report["name"], report["error"]) == ("local", "by a client", REFUSED)
    assert report["events"] == ([1, 2, 3, 4] if subscribes else None)


def compile_for_relay(folder: Path) -> None:
    """Compile the operations of relay/operations.js into artifacts in `folder`."""
    shutil.copy(FOLDER / "relay_operations.js", folder / "operations.js")
    shutil.copy(FOLDER.parents[1] / "schema" / "schema.graphql", folder)
    (folder / "relay.config.json").write_text(json.dumps(RELAY_CONFIG))
    (folder / "package.json").write_text('{"type": "module"}')
    compiler = [str(node_with_packages().program), str(PACKAGES / "relay-compiler" / "cli.js"), "relay.config.json"]
    done = subprocess.run(compiler, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


async def test_relay_compiles_its_operations_and_keeps_nodes_in_its_store(address: str, tmp_path: Path) -> None:
    await asyncio.to_thread(compile_for_relay, tmp_path)
    url = f"http://{address}/graphql"
    report = await asyncio.to_thread(run_script, "relay.mjs", url, str(tmp_path / "__generated__"))
    assert (report["subject"], report["name"]) == ("local", "by a client")
    assert report["events"] == [1, 2, 3, 4]
    assert "Cannot query field" in report["error"]
    # The update of one query is seen by the other, because both have the same id.
    assert report["renamed"] == ["by a client", "renamed"]


CREATE = 'mutation { createWorkflow(input: {name: "by a client"}) { workflow { id name } } }'
RUN = "mutation($id: ID!) { runWorkflow(input: {workflowId: $id}) { run { id } } }"
CANCEL = "mutation($id: ID!) { cancelRun(input: {runId: $id}) { errors { detail } } }"
EVENTS = "subscription($id: ID!) { runEvents(runId: $id) { seq } }"


async def test_gql_for_python_runs_every_kind_of_operation(address: str) -> None:
    http = gql.transport.httpx.HTTPXAsyncTransport(f"http://{address}/graphql")
    socket = gql.transport.websockets.WebsocketsTransport(f"ws://{address}/graphql")
    async with gql.Client(transport=http) as calls, gql.Client(transport=socket) as subscriptions:
        assert await calls.execute(gql.gql("{ viewer { subject } }")) == {"viewer": {"subject": "local"}}
        workflow = (await calls.execute(gql.gql(CREATE)))["createWorkflow"]["workflow"]
        run = (await calls.execute(gql.GraphQLRequest(RUN, variable_values={"id": workflow["id"]})))["runWorkflow"][
            "run"
        ]
        seqs = []
        async for update in subscriptions.subscribe(gql.GraphQLRequest(EVENTS, variable_values={"id": run["id"]})):
            seqs.append(update["runEvents"]["seq"])
            if len(seqs) == 1:
                await calls.execute(gql.GraphQLRequest(CANCEL, variable_values={"id": run["id"]}))
        assert seqs == [1, 2, 3, 4]
        with pytest.raises(gql.transport.exceptions.TransportQueryError, match="Cannot query field 'nothing'"):
            await calls.execute(gql.gql("{ nothing }"))
