"""Opens the resources of a process that its nodes use: sandbox, HTTP client, tools, models.

The worker opens them to run nodes, the server to test single nodes. Nothing here is stored: the
process opens resources that need the database, such as secrets and child runs, and passes them in.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic_monty import AsyncMonty

from engine.catalog_file import CatalogFile
from engine.chat_models.catalog import open_models
from engine.isolation.turns import FairSlots
from engine.metrics import SANDBOX_WAITING, SANDBOXES
from engine.nodes.http.addresses import Allowed
from engine.nodes.http.client import GuardedHttp
from engine.tools.catalog import open_tools
from engine.tools.sql import sql_tools


@dataclass(frozen=True, slots=True)
class ResourceOptions:
    """Settings of the host.

    `sandbox_ready` is the number of sandbox processes that start with the process, the others start
    when they are needed, up to `sandbox_processes`.
    """

    sandbox_ready: int = 1
    sandbox_processes: int = 1
    sandbox_memory_mb: int = 128
    http_allow: str = ""
    catalog: CatalogFile = field(default_factory=CatalogFile)


@asynccontextmanager
async def open_resources(options: ResourceOptions, own: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Open the resources, by the names under which nodes find them in `ctx.resources`.

    Args:
        options: The settings.
        own: Resources that the process has opened itself: `secrets`, `runs`, `items`, `databases`.
    """
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(
            # The turns below limit how many are in use. One that was killed counts for the pool until it is
            # gone, and would keep the next call waiting.
            AsyncMonty(min_processes=options.sandbox_ready, max_processes=2 * options.sandbox_processes)
        )
        queries = sql_tools(options.catalog.sql, own.get("databases"))
        tools = await stack.enter_async_context(open_tools(options.catalog.mcp, queries))
        models = await stack.enter_async_context(open_models(options.catalog.models, own.get("secrets")))
        # One project leaves a sandbox to the others, however long its code runs.
        turns = FairSlots(options.sandbox_processes, max(options.sandbox_processes - 1, 1))
        SANDBOXES.labels("busy").set_function(lambda: turns.busy)
        SANDBOXES.labels("idle").set_function(lambda: turns.count - turns.busy)
        SANDBOX_WAITING.set_function(lambda: turns.waiting)
        yield {
            **own,
            "http": GuardedHttp(Allowed.parse(options.http_allow)),
            "sandbox": sandbox,
            "sandbox_turns": turns,
            "tools": tools,
            "models": models,
            "sandbox_memory_mb": options.sandbox_memory_mb,
        }
