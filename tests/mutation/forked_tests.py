"""Runs tests again and again, each time in a fork of this process.

This process has imported the libraries of the tests, and runs the stores. So a run costs neither the
imports, which take seconds, nor the start of Postgres. It has imported no module of the checkout,
holds no connection and has no threads: each fork reads the modules as they are then, mutant included.

Started by run.py with the Python of the checkout. Reads requests from stdin and writes answers to
stdout, one line of JSON each.
"""

import asyncio
import gc
import importlib
import json
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest

Urls = tuple[str, str]
QUIET = ["-q", "-x", "-p", "no:cacheprovider", "-p", "tests.mutation.quick_examples"]
# Libraries that are imported already cannot be rewritten: no test looks into their assertions.
IMPORTED = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
UNSAFE = ("hypothesis", "_hypothesis", "pytest_asyncio", "xdist", "_pytest")
"""Packages with pytest plugins that have to be imported by pytest itself."""
NOT_STARTED = 99
"""The exit code of a fork that could not start pytest."""
SEEN = "TREADLE_MUTATION_IMPORTS"
"""Names the file to which `tests.mutation.quick_examples` writes the imported libraries."""


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    sys.path.insert(0, str(Path.cwd()))
    with _stores() as urls:
        for line in sys.stdin:
            request = json.loads(line)
            if request.get("imports"):
                _import_libraries(request["tests"], urls)
            print(json.dumps(_run(request["tests"], request["limit_s"], urls)), file=answers, flush=True)


@contextmanager
def _stores() -> Iterator[Urls]:
    """Run Postgres and Redis, and forget the modules of the checkout that started them."""
    before = set(sys.modules)
    servers = importlib.import_module("app.embedded.servers").servers
    with tempfile.TemporaryDirectory(prefix="treadle-test-") as folder:
        Path(folder).chmod(0o711)
        with servers(Path(folder), durable=False) as urls:
            own = {path.name for path in Path.cwd().iterdir()}
            for name in set(sys.modules) - before:
                if name.partition(".")[0] in own:
                    del sys.modules[name]
            yield urls


def _import_libraries(tests: list[str], urls: Urls) -> None:
    """Import the libraries that the tests import, in the same order."""
    with tempfile.NamedTemporaryFile("r", prefix="treadle-imports-") as seen:
        os.environ[SEEN] = seen.name
        _run([*tests, "--collect-only"], 300, urls)
        del os.environ[SEEN]
        names = seen.read().split()
    for name in names:
        if not name.startswith(UNSAFE):
            # A module that only some circumstances allow to be imported is imported by the tests.
            with suppress(Exception):
                importlib.import_module(name)
    gc.freeze()


def _run(tests: list[str], limit_s: float, urls: Urls) -> dict[str, Any]:
    """Run tests in a fork. The code of the answer is None if they took longer than `limit_s`."""
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if child == 0:
            _become_tests(tests, urls, output.fileno())
        code = _exit_code(child, limit_s)
        output.seek(0)
        return {"code": code, "seconds": time.monotonic() - began, "output": output.read()[-4000:]}


def _exit_code(child: int, limit_s: float) -> int | None:
    """Wait for the end of a fork. End it, and what it has started, when the time is over."""
    descriptor, is_ended = os.pidfd_open(child), False
    try:
        is_ended = bool(select.select([descriptor], [], [], limit_s)[0])
    finally:
        os.close(descriptor)
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if is_ended else None


def _become_tests(tests: list[str], urls: Urls, output: int) -> None:
    """Run the tests in this fork, and exit with their code."""
    code = NOT_STARTED
    try:
        os.setsid()
        # Only the run without a mutant writes byte code: pytest's own, of the tests.
        sys.dont_write_bytecode = SEEN not in os.environ
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        asyncio.run(_drop_test_databases(urls[0]))
        servers = importlib.import_module("app.embedded.servers")
        servers.servers = lambda *_, **__: nullcontext(urls)  # type: ignore[attr-defined]
        code = int(pytest.main([*QUIET, *IMPORTED, *tests]))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


async def _drop_test_databases(url: str) -> None:
    """Drop the databases of tests that did not end."""
    connection = await asyncpg.connect(url.replace("/treadle?", "/postgres?"))
    for row in await connection.fetch("SELECT datname FROM pg_database WHERE datname LIKE 'test%'"):
        await connection.execute(f"DROP DATABASE {row['datname']} WITH (FORCE)")
    await connection.close()


if __name__ == "__main__":
    main()
