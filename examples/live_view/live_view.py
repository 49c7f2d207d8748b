"""A live view of a run in the terminal: python live_view.py RUN_ID

It shows each node with its status and text, asks the questions of `human` nodes, and ends with the run.
TREADLE_URL is the address of the API, TREADLE_TOKEN a token or an API key if the server has sign-in.
"""

import asyncio
import json
import os
import sys

from treadle.client import AsyncClient, RunView, TreadleError


def show(view: RunView) -> None:
    """Print the view. A terminal is cleared before."""
    if sys.stdout.isatty():
        print("\033[2J\033[H", end="")
    print(f"{view.status}  {view.progress:.0%}")
    for state in view.nodes.values():
        note = state.error.message if state.error else view.texts.get(state.node_id) or state.message or ""
        print(f"  {state.label:<20} {state.status:<10} {note}")
    for line in view.log[-3:]:
        print(f"  {line.level}: {line.message}")


async def answer(client: AsyncClient, run_id: str, answered: set[str]) -> None:
    """Ask the questions that the run waits for, and send the answers."""
    for wait in await client.waits(run_id) or []:
        if wait.wait_id and wait.wait_id not in answered:
            answered.add(wait.wait_id)
            text = await asyncio.to_thread(input, f"{wait.prompt} ")
            try:
                value = json.loads(text)
            except ValueError:
                value = text
            await client.resume_run(run_id, wait_id=wait.wait_id, answer=value)


async def main(run_id: str) -> int:
    url = os.environ.get("TREADLE_URL", "http://127.0.0.1:8000/graphql")
    view, answered = RunView(), set[str]()
    async with AsyncClient(url, token=os.environ.get("TREADLE_TOKEN")) as client:
        async for update in client.watch_run(run_id):
            view.apply(update)
            show(view)
            if any(state.status == "WAITING" for state in view.nodes.values()):
                await answer(client, run_id, answered)
        run = await client.run(run_id)
    if run is None:
        print("The run was deleted.")
        return 1
    print(json.dumps(run.output, indent=2) if run.error is None else run.error.message)
    return 0 if run.status == "COMPLETED" else 1


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main(sys.argv[1])))
    except TreadleError as error:
        sys.exit(str(error))
