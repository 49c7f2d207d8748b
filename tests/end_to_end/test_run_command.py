"""`treadle run`: its output while a run waits for a person, and after Ctrl-C."""

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

from tests.end_to_end.support.system import CANCEL, ROOT, SystemUnderTest, running

APPROVAL = ROOT / "examples" / "expense_approval.json"
StartCommand = Callable[..., Coroutine[Any, Any, Process]]


def _accept_sigint() -> None:
    """Restore the default of SIGINT, which children of a background process ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
async def treadle(system: SystemUnderTest) -> AsyncIterator[StartCommand]:
    """Starts `treadle run` with the server of the system; kills all processes at the end."""
    processes: list[Process] = []

    async def start(*arguments: object) -> Process:
        command = [sys.executable, "-m", "app.cli", "run", *map(str, arguments), "--port", str(system.port)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TREADLE_")}
        process = await asyncio.create_subprocess_exec(
            *command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, env=environment, preexec_fn=_accept_sigint
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def output_until(process: Process, text: str) -> str:
    """Return the output up to the first line that contains `text`."""
    assert process.stdout is not None
    output = ""
    async with asyncio.timeout(60):
        while line := (await process.stdout.readline()).decode():
            output += line
            if text in line:
                return output
    raise AssertionError(f"the process never printed {text!r}:\n{output}")


async def remaining_output(process: Process) -> str:
    async with asyncio.timeout(60):
        return (await process.communicate())[0].decode()


@asynccontextmanager
async def cancelled(system: SystemUnderTest, run_id: str) -> AsyncIterator[None]:
    yield
    await system.execute(CANCEL, id=run_id)
    await system.wait_for_end(run_id)


@pytest.mark.parametrize("options", [[], ["--watch"]], ids=["plain", "watched"])
async def test_the_command_prints_a_question_and_continues_with_the_answer(
    system: SystemUnderTest, treadle: StartCommand, options: list[str]
) -> None:
    process = await treadle(APPROVAL, *options)
    output = await output_until(process, "The answer must match")
    assert "“Ask the manager”" in output
    assert "Ada asks for 840: A train to Lyon" in output
    assert f"http://127.0.0.1:{system.port}/graphql" in output
    # The printed mutation is valid without any change.
    (mutation,) = re.findall(r"mutation \{ resumeRun.*", output)
    assert (await system.execute(mutation))["resumeRun"]["errors"] == []
    remaining = await remaining_output(process)
    assert process.returncode == 0
    assert json.loads(remaining[remaining.index("COMPLETED in") :].split("\n", 1)[1])["pay"]["paid"] is True


async def test_each_question_is_printed_once(system: SystemUnderTest, treadle: StartCommand, tmp_path: Path) -> None:
    spec: dict[str, Any] = {"nodes": [], "edges": [{"source": "one", "target": "two"}]}
    spec["nodes"] = [{"id": name, "type": "human", "config": {"prompt": f"The {name}?"}} for name in ("one", "two")]
    file = tmp_path / "spec.json"
    file.write_text(json.dumps(spec))
    process = await treadle(file)
    output = ""
    for _ in range(2):
        output += await output_until(process, "mutation { resumeRun")
        await system.execute(re.findall(r"mutation \{ resumeRun.*", output)[-1])
    output += await remaining_output(process)
    assert process.returncode == 0
    assert [output.count(f"The {name}?") for name in ("one", "two")] == [1, 1]


async def test_ctrl_c_prints_that_the_run_continues_and_how_to_cancel_it(
    system: SystemUnderTest, treadle: StartCommand
) -> None:
    process = await treadle(APPROVAL, "--watch")
    run_id = re.findall(r"run_\w+", await output_until(process, "The answer must match"))[0]
    async with cancelled(system, run_id):
        process.send_signal(signal.SIGINT)
        remaining = await remaining_output(process)
        assert process.returncode == 130
        assert f"{run_id} continues on the server" in remaining
        assert "Traceback" not in remaining
        assert (await system.read(run_id))["status"] == "WAITING"
        (mutation,) = re.findall(r"mutation \{ cancelRun.*", remaining)
        assert (await system.execute(mutation))["cancelRun"]["run"]["status"] in ("CANCELLING", "CANCELLED")


async def test_a_problem_of_the_spec_is_printed_once(treadle: StartCommand, tmp_path: Path) -> None:
    file = tmp_path / "spec.json"
    file.write_text(json.dumps({"nodes": [{"id": "a", "type": "nothing_like_it"}], "edges": []}))
    process = await treadle(file)
    remaining = await remaining_output(process)
    assert process.returncode == 1
    assert remaining.startswith("treadle: Invalid input:\n")
    assert remaining.count("nothing_like_it") == 1


async def test_a_server_that_is_not_treadle_is_reported() -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHello")
        writer.close()

    async with await asyncio.start_server(respond, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "app.cli", "run", str(APPROVAL), "--port", str(port)], stdout=PIPE, stderr=STDOUT
        )
        remaining = await remaining_output(process)
    assert process.returncode == 1
    assert remaining.startswith(f"treadle: the server at http://127.0.0.1:{port}/graphql is not Treadle")


async def test_the_command_says_that_no_worker_is_alive(database_url: str, redis_url: str, tmp_path: Path) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text('{"nodes": [{"id": "a", "type": "transform", "config": {"output": 1}}], "edges": []}')
    async with running(database_url, redis_url, workers=0) as system:
        command = [sys.executable, "-m", "app.cli", "run", str(spec), "--port", str(system.port)]
        process = await asyncio.create_subprocess_exec(*command, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT)
        try:
            await output_until(process, "No worker is alive, so the run stays QUEUED")
            system.start("worker")
            assert "COMPLETED in" in await output_until(process, "COMPLETED in")
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
