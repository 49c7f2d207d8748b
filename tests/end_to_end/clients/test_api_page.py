"""Every block of docs/api.md runs, and the live views of examples/live_view show a run to its end."""

import asyncio
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from graphql import GraphQLSchema, build_schema, parse, validate

from app.settings import Settings
from clients.build import PACKAGE, build
from tests.app_server import serving
from tests.clients.installed import FOLDER, node_with_packages
from tests.end_to_end.support.system import ROOT, SystemUnderTest
from treadle.client import AsyncClient

PAGE = (ROOT / "docs" / "api.md").read_text("utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ADDRESS = "127.0.0.1:8000"
QUESTION = {"nodes": [{"id": "ask", "type": "human", "config": {"prompt": "Go on?"}}]}
DOUBLE = {"nodes": [{"id": "double", "type": "transform", "config": {"output": "{{ input.value * 2 }}"}}]}
REFUSED_SPECS = """
// @ts-expect-error: a misspelt field of a config
export const field: Spec = { nodes: [{ id: 'a', type: 'transform', config: { output: 1, outptu: 2 } }] }
// @ts-expect-error: a config without its required field
export const config: Spec = { nodes: [{ id: 'a', type: 'http', config: {} }] }
// @ts-expect-error: an unknown type
export const type: Spec = { nodes: [{ id: 'a', type: 'transfrom', config: { output: 1 } }] }
// @ts-expect-error: an edge without a target
export const edge: Spec = { nodes: [{ id: 'a', type: 'start' }], edges: [{ source: 'a' }] }
"""
COMPILER = (
    *("node_modules/typescript/bin/tsc", "--ignoreConfig", "--module", "nodenext", "--target", "es2022", "--strict"),
    *("--skipLibCheck", "--noUncheckedIndexedAccess", "--types", "node"),
)


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCKS if kind == language]


def test_every_block_of_the_page_has_a_test() -> None:
    assert {language for language, _ in BLOCKS} <= {"sh", "python", "ts", "js", "graphql"}
    assert len(blocks("python")) == len(blocks("ts")) >= 8
    assert len(blocks("sh")) > len(blocks("python"))


async def run_program(*command: object, folder: Path = ROOT, answers: str = "", **variables: str) -> str:
    """Run a program to its end, and return what it prints."""

    def run() -> "subprocess.CompletedProcess[str]":
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PATH": f"{node_folder()}:{os.environ['PATH']}",
            **variables,
        }
        arguments = [str(part) for part in command]
        return subprocess.run(
            arguments,
            cwd=folder,
            env=environment,
            input=answers,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    done = await asyncio.to_thread(run)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def node_folder() -> Path:
    return build()[0].program.parent


@pytest.fixture
async def values(system: SystemUnderTest) -> AsyncIterator[dict[str, str]]:
    """What stands for the ids of the page."""
    async with AsyncClient(f"http://127.0.0.1:{system.port}/graphql") as client:
        workflow = await client.create_workflow("Of the page", spec=DOUBLE)
        run = await client.run_and_wait(workflow.id, {"value": 1})
    yield {ADDRESS: f"127.0.0.1:{system.port}", "wf_…": workflow.id, "run_…": run.id}


def filled(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(name, value)
    assert "…" not in text
    return text


def documents(text: str) -> list[Any]:
    """Return the JSON documents of a text."""
    decoder, found, position = json.JSONDecoder(), [], 0
    while position < len(text.rstrip()):
        document, position = decoder.raw_decode(text, position)
        found.append(document)
        position += len(text[position:]) - len(text[position:].lstrip())
    return found


async def test_the_shell_blocks_run(values: dict[str, str]) -> None:
    prelude = filled(blocks("sh")[0], values)
    for block in blocks("sh"):
        if "documentId" in block:
            continue
        printed = await run_program(
            "bash", "-euc", f"{prelude}\n{filled(block, values)}" if block not in prelude else prelude
        )
        if "event-stream" in block:
            assert '"__typename":"RunSnapshot"' in printed
            assert printed.endswith("event: complete\ndata: \n\n")
            continue
        results = documents(printed)
        assert results, printed
        assert [result for result in results if "errors" in result] == []


async def test_the_block_with_a_trusted_document_runs(database_url: str, redis_url: str, tmp_path: Path) -> None:
    (block,) = (block for block in blocks("sh") if "documentId" in block)
    text = "query ($id: ID!) { run(id: $id) { status } }"
    file = tmp_path / "persisted-documents.json"
    file.write_text(json.dumps({"abc": text}))
    settings = Settings(database_url=database_url, redis_url=redis_url, documents="strict", documents_file=file)
    values = {
        "sha256:…": f"sha256:{hashlib.sha256(text.encode()).hexdigest()}",
        "run_…": "run_01h455vb4pex5vsknk084sn02q",
    }
    async with serving(settings) as address:
        printed = await run_program(
            "bash", "-euc", filled(block, {ADDRESS: address, **values}).replace("curl", "curl -s", 1)
        )
    assert json.loads(printed) == {"data": {"run": None}}


async def test_the_python_blocks_run(values: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "page.py"
    file.write_text(filled("\n".join(blocks("python")), values).replace("order 17", "of Python"))
    printed = await run_program(sys.executable, file)
    assert printed.startswith("local\n{'double': 42}\n")
    assert "COMPLETED 1.0 {'double': <NodeStatus.COMPLETED" in printed


async def compiled(name: str, text: str) -> Path:
    """Compile a TypeScript program in the scope of the package, and return its JavaScript."""
    node = str((await asyncio.to_thread(build))[0].program)
    folder = PACKAGE / "dist" / "programs"
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.{os.getpid()}.ts"
    file.write_text(text)
    await run_program(node, *COMPILER, file, folder=PACKAGE)
    return file.with_suffix(".js")


async def test_the_typescript_blocks_compile_and_run(values: dict[str, str]) -> None:
    page = filled("\n".join(blocks("ts")), values).replace("order 17", "of TypeScript")
    program = await compiled("page", page + REFUSED_SPECS)
    printed = await run_program(node_folder() / "node", program, folder=PACKAGE)
    assert printed.startswith("local\n{ double: 42 }\n")
    assert "COMPLETED 1 [ 'COMPLETED' ]" in printed


async def test_the_block_for_caches_runs(tmp_path: Path) -> None:
    (block,) = blocks("js")
    node = await asyncio.to_thread(node_with_packages)
    cache = (ROOT / "schema" / "client_cache.json").as_posix()
    script = FOLDER / "node_modules" / f"page.{os.getpid()}.mjs"
    script.write_text(block.replace("./client_cache.json", cache))
    await run_program(node.program, script, folder=FOLDER)


@pytest.mark.parametrize("block", blocks("graphql"))
def test_the_graphql_blocks_are_valid(block: str) -> None:
    schema: GraphQLSchema = build_schema((ROOT / "schema" / "schema.graphql").read_text("utf-8"))
    assert [error.message for error in validate(schema, parse(block))] == []


async def live_view(client: str) -> tuple[object, ...]:
    """Return the command of a live view."""
    folder = ROOT / "examples" / "live_view"
    if client == "python":
        return sys.executable, folder / "live_view.py"
    if client == "typescript":
        return node_folder() / "node", await compiled("live_view", (folder / "live_view.ts").read_text())
    node = await asyncio.to_thread(node_with_packages)
    copy = FOLDER / "node_modules" / f"live_view.{os.getpid()}"
    for file in (*folder.glob("*.mjs"), ROOT / "schema" / "client_cache.json"):
        target = copy / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    return node.program, copy / "examples" / "live_view" / f"{client}.mjs"


@pytest.mark.parametrize("client", ["python", "typescript", "urql", "apollo"])
async def test_a_live_view_shows_a_run_to_its_end_and_answers_its_question(
    system: SystemUnderTest, client: str
) -> None:
    url = f"http://127.0.0.1:{system.port}/graphql"
    async with AsyncClient(url) as caller:
        run_id = (await caller.run_adhoc(QUESTION)).id
    command = await live_view(client)
    printed = await run_program(*command, run_id, folder=PACKAGE, answers='"yes"\n', TREADLE_URL=url)
    assert re.search(r"ask +WAITING", printed)
    assert "Go on?" in printed
    assert re.search(r"COMPLETED  100%\n  ask +COMPLETED", printed)
    assert printed.endswith('{\n  "ask": "yes"\n}\n')
