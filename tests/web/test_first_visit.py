"""The editors of a first visit, by the page's own code: the first tab's query comes with its variables."""

import json
import subprocess
from typing import Any

from web.build import WEB, machine_node, wheel_node

TABS = [{"query": "query ($a: Int!) { a }", "variables": '{"a": 1}'}, {"query": "{ b }", "variables": "{}"}]
SCRIPT = """
import { openFirstTab } from "./src/first_visit.js";
const kept = new Map(JSON.parse(process.argv[1]));
const storage = {
  getItem: (key) => kept.get(key) ?? null,
  setItem: (key, value) => kept.set(key, value),
  removeItem: (key) => kept.delete(key),
  clear: () => kept.clear(),
  get length() { return kept.size; },
};
openFirstTab(storage, JSON.parse(process.argv[2]));
console.log(JSON.stringify([...kept]));
"""


def visited(**kept: str) -> dict[str, Any]:
    """What the browser's storage holds once the page has been opened with `kept` in it."""
    node = machine_node() or wheel_node()
    given = json.dumps([[f"graphiql:{name}", value] for name, value in kept.items()])
    command = [node.program, "--input-type=module", "--eval", SCRIPT, given, json.dumps(TABS)]
    answer = subprocess.run(command, cwd=WEB, capture_output=True, text=True, check=True).stdout
    return {key.removeprefix("graphiql:"): value for key, value in json.loads(answer)}


def test_the_first_tab_opens_with_its_variables() -> None:
    """They were once left out, and the first operation of a newcomer failed for want of them."""
    assert visited() == TABS[0]


def test_what_was_written_here_before_stays() -> None:
    for kept in ({"query": "{ mine }"}, {"tabState": "{}"}):
        assert visited(**kept) == kept
