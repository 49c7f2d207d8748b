"""The first tab of a first visit has its query and its variables."""

import json
import subprocess
from typing import Any

from web.build import WEB, machine_node, wheel_node

TABS = [{"query": "query ($a: Int!) { a }", "variables": '{"a": 1}'}, {"query": "{ b }", "variables": "{}"}]
SCRIPT = """
import { openFirstTab } from "./src/graphiql/first_visit.js";
const items = new Map(JSON.parse(process.argv[1]));
const storage = {
  getItem: (key) => items.get(key) ?? null,
  setItem: (key, value) => items.set(key, value),
  removeItem: (key) => items.delete(key),
  clear: () => items.clear(),
  get length() { return items.size; },
};
openFirstTab(storage, JSON.parse(process.argv[2]));
console.log(JSON.stringify([...items]));
"""


def storage_after_visit(**stored: str) -> dict[str, Any]:
    """Open the page with `stored` in the browser storage, and return the storage afterwards."""
    node = machine_node() or wheel_node()
    before = json.dumps([[f"graphiql:{name}", value] for name, value in stored.items()])
    command = [node.program, "--input-type=module", "--eval", SCRIPT, before, json.dumps(TABS)]
    answer = subprocess.run(command, cwd=WEB, capture_output=True, text=True, check=True).stdout
    return {key.removeprefix("graphiql:"): value for key, value in json.loads(answer)}


def test_the_first_tab_opens_with_its_variables() -> None:
    """Without them, the first operation of a new user would fail."""
    assert storage_after_visit() == TABS[0]


def test_the_content_of_an_earlier_visit_stays() -> None:
    for stored in ({"query": "{ mine }"}, {"tabState": "{}"}):
        assert storage_after_visit(**stored) == stored
