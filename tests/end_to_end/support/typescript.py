"""Runs the TypeScript client with Node.js."""

import asyncio
import subprocess
from typing import Any

import orjson

from clients.build import PACKAGE, build


def node(*arguments: str, timeout_s: float = 120) -> str:
    """Run Node.js in the folder of the package, and return what it prints."""
    command = [str(build()[0].program), *arguments]
    done = subprocess.run(command, cwd=PACKAGE, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, f"{arguments}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


async def report(*arguments: str) -> dict[str, Any]:
    """Run a script, and return the JSON document that it prints."""
    result: dict[str, Any] = orjson.loads(await asyncio.to_thread(node, *arguments))
    return result
