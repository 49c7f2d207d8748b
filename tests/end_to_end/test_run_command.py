"""`treadle run` as a person has it: what it says while a run waits for them, and when they leave."""

import asyncio
import json
import os
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.system import CANCEL, ROOT, System

APPROVAL = ROOT / "examples" / "expense_approval.json"
Starting = Callable[..., Coroutine[Any, Any, Process]]


def _hears_ctrl_c() -> None:
    """A suite that was started in the background has SIGINT ignored, and its children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
async def treadle(system: System) -> AsyncIterator[Starting]:
    """Starts `treadle run` on the system's server; what still runs at the end is ended."""
    started: list[Process] = []

    async def start(*arguments: object) -> Process:
        command = [sys.executable, "-m", "app.cli", "run", *map(str, arguments), "--port", str(system.port)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TREADLE_")}
        process = await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, env=environment, preexec_fn=_hears_ctrl_c
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def said_until(process: Process, wanted: str) -> str:
    assert process.stdout is not None
    said = ""
    async with asyncio.timeout(60):
        while line := (await process.stdout.readline()).decode():
            said += line
            if wanted in line:
                return said
    raise AssertionError(f"it never said {wanted!r}:\n{said}")


async def rest(process: Process) -> str:
    async with asyncio.timeout(60):
        return (await process.communicate())[0].decode()


@asynccontextmanager
async def cancelled(system: System, run_id: str) -> AsyncIterator[None]:
    yield
    await system.ask(CANCEL, id=run_id)
    await system.ended(run_id)


@pytest.mark.parametrize("options", [[], ["--watch"]], ids=["plain", "watched"])
async def test_a_run_that_waits_for_a_person_says_what_it_asks_and_goes_on_with_the_answer(
    system: System, treadle: Starting, options: list[str]
) -> None:
    process = await treadle(APPROVAL, *options)
    said = await said_until(process, "The answer must match")
    assert "“Ask the manager”" in said
    assert "Ada asks for 840: A train to Lyon" in said
    assert f"http://127.0.0.1:{system.port}/graphql" in said
    # As it stands there: pasted, it is taken.
    (mutation,) = re.findall(r"mutation \{ resumeRun.*", said)
    assert (await system.ask(mutation))["resumeRun"]["errors"] == []
    told = await rest(process)
    assert process.returncode == 0
    assert json.loads(told[told.index("COMPLETED in") :].split("\n", 1)[1])["pay"]["paid"] is True


async def test_a_question_is_asked_once_although_others_are_asked_later(
    system: System, treadle: Starting, tmp_path: Path
) -> None:
    asks: dict[str, Any] = {"nodes": [], "edges": [{"source": "one", "target": "two"}]}
    asks["nodes"] = [{"id": name, "type": "human", "config": {"prompt": f"The {name}?"}} for name in ("one", "two")]
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(asks))
    process = await treadle(file)
    said = ""
    for _ in range(2):
        said += await said_until(process, "mutation { resumeRun")
        await system.ask(re.findall(r"mutation \{ resumeRun.*", said)[-1])
    said += await rest(process)
    assert process.returncode == 0
    assert [said.count(f"The {name}?") for name in ("one", "two")] == [1, 1]


async def test_who_leaves_is_told_that_the_run_goes_on_and_under_which_id(system: System, treadle: Starting) -> None:
    process = await treadle(APPROVAL, "--watch")
    run_id = re.findall(r"run_\w+", await said_until(process, "The answer must match"))[0]
    async with cancelled(system, run_id):
        process.send_signal(signal.SIGINT)
        told = await rest(process)
        assert process.returncode == 130
        assert f"{run_id} continues on the server" in told
        assert "Traceback" not in told
        assert (await system.read(run_id))["status"] == "WAITING"
        (mutation,) = re.findall(r"mutation \{ cancelRun.*", told)
        assert (await system.ask(mutation))["cancelRun"]["run"]["status"] in ("CANCELLING", "CANCELLED")


async def test_a_problem_of_the_spec_is_said_once(treadle: Starting, tmp_path: Path) -> None:
    file = tmp_path / "spec.json"
    file.write_text(json.dumps({"nodes": [{"id": "a", "type": "nothing_like_it"}], "edges": []}))
    process = await treadle(file)
    told = await rest(process)
    assert process.returncode == 1
    assert told.startswith("treadle: Invalid input:\n")
    assert told.count("nothing_like_it") == 1


async def test_what_answers_and_is_no_treadle_is_told() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHello")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "app.cli", "run", str(APPROVAL), "--port", str(port)], stdout=PIPE, stderr=STDOUT
        )
        told = await rest(process)
    assert process.returncode == 1
    assert told.startswith(f"treadle: the server at http://127.0.0.1:{port}/graphql is not Treadle")
