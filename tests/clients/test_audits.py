"""GraphQL over HTTP: every audit of the npm package graphql-http passes."""

import asyncio

from tests.clients.installed import run_script

AUDITS = 61


async def test_every_audit_of_graphql_over_http_passes(address: str) -> None:
    results = await asyncio.to_thread(run_script, "audits.mjs", f"http://{address}/graphql")
    assert [result for result in results if result["status"] != "ok"] == []
    assert len(results) >= AUDITS
