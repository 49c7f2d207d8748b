"""The studio watches a run, goes back to its earlier states, and forks from there."""

import asyncio

from tests.end_to_end.support.browser import ScenarioPlayer, long
from tests.end_to_end.support.system import SystemUnderTest, copy_database, running

ASKS = {
    "nodes": [
        {"id": "word", "type": "transform", "config": {"output": 1}},
        {"id": "ask", "type": "human", "config": {"prompt": "Go on?"}},
        {"id": "last", "type": "transform", "config": {"output": "{{ ask.output.go }}"}},
    ],
    "edges": [{"source": "word", "target": "ask"}, {"source": "ask", "target": "last"}],
}
WAIT = "query ($id: ID!) { run(id: $id) { waits { ... on InputWait { waitId } } } }"
ANSWER = "mutation ($input: ResumeRunInput!) { resumeRun(input: $input) { errors { detail } } }"


async def test_a_run_is_stepped_answered_and_forked_from_an_earlier_state_with_an_edited_output(
    browser: ScenarioPlayer, system: SystemUnderTest
) -> None:
    report = await browser.play("travel", system.port)
    assert (report["afterStep"], report["now"]) == ("IDLE", ["Now", "COMPLETED"])
    assert report["outputThere"] == {"text": "one <script>document.title='pwned'</script>"}
    assert report["reloaded"].endswith(", before ask")
    assert (report["evaluated"], report["forked"], report["title"]) == ("43", "two, true", "Treadle")


@long
async def test_a_run_is_repeated_with_other_inputs_from_its_timeline(
    browser: ScenarioPlayer, system: SystemUnderTest
) -> None:
    report = await browser.play("again", system.port)
    assert (report["widths"], report["order"][-2:], report["node"]) == (True, ["Greet", "wait"], "greet")
    assert (report["before"], report["after"]) == ("Ada", "Dear Grace")


@long
async def test_open_questions_of_all_runs_are_listed_and_answered(
    browser: ScenarioPlayer, system: SystemUnderTest
) -> None:
    assert (await browser.play("questions", system.port))["title"] == "Treadle"


@long
async def test_streamed_text_stays_after_a_cancel_and_a_reload(
    browser: ScenarioPlayer, model_system: SystemUnderTest
) -> None:
    node = {"id": "say", "type": "llm", "config": {"model": "falls-silent", "prompt": "Speak"}}
    started = await model_system.run({"nodes": [node], "edges": []}, mode="ASYNC")
    report = await browser.play("stream", model_system.port, runId=started["run"]["id"])
    assert report["streamed"]
    assert report["streamed"] == report["afterCancel"] == report["afterReload"]


@long
async def test_a_view_loses_nothing_when_the_server_is_killed_during_a_run(
    browser: ScenarioPlayer, template: str, embedded: tuple[str, str]
) -> None:
    urls = await copy_database(template, "studio_reconnect"), embedded[1].replace("db=0", "db=3")
    async with running(*urls) as system:
        started = await system.run(ASKS)

        async def kill() -> None:
            server = system.processes[0]
            server.kill()
            await asyncio.to_thread(server.wait)

        async def start() -> None:
            system.start("server")
            await system.wait_until_healthy()

        async def answer() -> None:
            run_id = started["run"]["id"]
            wait_id = (await system.execute(WAIT, id=run_id))["run"]["waits"][0]["waitId"]
            payload = await system.execute(ANSWER, input={"runId": run_id, "waitId": wait_id, "answer": {"go": True}})
            assert payload["resumeRun"]["errors"] == []

        acts = {"kill": kill, "start": start, "answer": answer}
        report = await browser.play("reconnect", system.port, acts, runId=started["run"]["id"])
    assert (report["shown"], report["nodes"]) == ("WAITING", ["COMPLETED"] * 3)


@long
async def test_a_run_of_1000_nodes_is_shown_node_by_node(browser: ScenarioPlayer, system: SystemUnderTest) -> None:
    report = await browser.play("largeRun", system.port)
    assert (report["rows"] >= 1000, report["output"]) == (True, "999")


@long
async def test_an_output_of_8_mib_is_folded_and_downloaded_whole(
    browser: ScenarioPlayer, system: SystemUnderTest
) -> None:
    report = await browser.play("output", system.port)
    assert (report["folded"], report["bytes"]) == (20_000, 8_388_000)
