"""An MCP server on standard streams: `python -P mcp_listing_server.py BEHAVIOUR`.

It starts normally. Its tool `change` announces a change of its tools; BEHAVIOUR is what it does
when it has to list them again.
"""

import json
import sys
import time
from typing import Any

BEHAVIOUR = sys.argv[1]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
HEAVY = {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?=x)"}}}
"""A schema that is checked in the isolated process."""
CAPABILITIES = {
    "protocolVersion": "2025-06-18",
    "capabilities": {"tools": {"listChanged": True}},
    "serverInfo": {"name": "listing", "version": "1"},
}
listed = 0


def send(**message: Any) -> None:
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)  # noqa: T201


def tools(id_: int) -> None:
    global listed
    listed += 1
    again = BEHAVIOUR if listed > 1 else "lists"
    if again == "refuses":
        send(id=id_, error={"code": -32603, "message": "no list today"})
    elif again == "nonsense":
        send(id=id_, result={"tools": "many"})
    elif again == "dies":
        sys.exit(3)
    elif again != "silent":
        schemas = {"add": SCHEMA, "change": SCHEMA, f"list_{listed}": HEAVY if again == "heavy" else SCHEMA}
        send(id=id_, result={"tools": [{"name": name, "inputSchema": schema} for name, schema in schemas.items()]})


for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    match message["method"]:
        case "initialize":
            time.sleep(1.0 if BEHAVIOUR == "slow" else 0.0)
            send(id=message["id"], result=CAPABILITIES)
        case "tools/list":
            tools(message["id"])
        case "tools/call":
            if message["params"]["name"] == "change":
                send(method="notifications/tools/list_changed")
            send(id=message["id"], result={"content": [{"type": "text", "text": "done"}]})
        case _:
            send(id=message["id"], result={})
