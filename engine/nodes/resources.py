"""What nodes reach beyond their run, opened once a process: by the worker, which runs nodes, and by the server, which tests them.

Nothing here is stored. What needs a store, such as secrets and child runs, is opened by the process and handed in.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic_monty import AsyncMonty

from engine.catalog_file import CatalogFile
from engine.chat_models.catalog import open_models
from engine.nodes.http.addresses import Allowed
from engine.nodes.http.client import GuardedHttp
from engine.tools.catalog import open_tools
from engine.tools.sql import sql_tools


@dataclass(frozen=True, slots=True)
class ResourceOptions:
    """The host's settings. `sandbox_ready` processes are started before the first node asks for one."""

    sandbox_ready: int = 1
    sandbox_processes: int = 1
    sandbox_memory_mb: int = 128
    http_allow: str = ""
    catalog: CatalogFile = field(default_factory=CatalogFile)


@asynccontextmanager
async def open_resources(options: ResourceOptions, given: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """By name, as nodes find them in `ctx.resources`; `given` are the process's own: `secrets`, `runs`, `databases`."""
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(
            AsyncMonty(min_processes=options.sandbox_ready, max_processes=options.sandbox_processes)
        )
        reading = sql_tools(options.catalog.sql, given.get("databases"))
        tools = await stack.enter_async_context(open_tools(options.catalog.mcp, reading))
        models = await stack.enter_async_context(open_models(options.catalog.models, given.get("secrets")))
        yield {
            **given,
            "http": GuardedHttp(Allowed.parse(options.http_allow)),
            "sandbox": sandbox,
            "tools": tools,
            "models": models,
            "sandbox_memory_mb": options.sandbox_memory_mb,
        }
