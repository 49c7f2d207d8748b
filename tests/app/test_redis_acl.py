"""A server and a worker run as the Redis user of examples/redis.acl, who may do nothing else."""

from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tests.end_to_end.support.system import ROOT, copy_database, running

QUESTION = {
    "nodes": [
        {"id": "text", "type": "llm", "config": {"model": "treadle/echo", "prompt": "{{ input.text }}"}},
        {"id": "wait", "type": "delay", "config": {"seconds": 0.3}},
    ],
    "edges": [{"source": "text", "target": "wait"}],
    "outputs": {"text": "{{ text.output }}"},
}
REFUSED: list[tuple[str, ...]] = [
    ("GET", "theirs"),
    ("SET", "theirs", "1"),
    ("PUBLISH", "theirs", "1"),
    ("SET", "arq:job:theirs:1", "1"),
    ("KEYS", "*"),
    ("FLUSHALL",),
    ("CONFIG", "GET", "*"),
    ("ACL", "LIST"),
    ("MONITOR",),
    ("EVAL", "return redis.call('GET', 'theirs')", "0"),
]


async def test_a_server_and_a_worker_need_no_more_than_the_example_of_an_acl(
    template: str, embedded: tuple[str, str], tmp_path: Path
) -> None:
    [line] = [line for line in (ROOT / "examples" / "redis.acl").read_text().splitlines() if line.startswith("user")]
    name, *rules = line.removeprefix("user ").split()
    admin = Redis.from_url(embedded[1])
    await admin.execute_command("ACL", "SETUSER", name, *rules)
    await admin.execute_command("ACL", "LOG", "RESET")
    url = embedded[1].replace("unix://", f"unix://{name}:change-me@").replace("db=0", "db=3")
    database_url, log = await copy_database(template, "redis_acl"), tmp_path / "log"
    try:
        async with running(database_url, url, log=log) as system:
            run_id = (await system.run(QUESTION, {"text": "hello"}, mode="ASYNC"))["run"]["id"]
            run = await system.wait_for_end(run_id)
            assert (run["status"], run["output"]) == ("COMPLETED", {"text": "hello"})
            started = (await system.run(QUESTION, {"text": "hello"}))["run"]
            assert started["status"] == "COMPLETED"
        # Also the commands of the stop, such as the end of arq.
        refused = await admin.execute_command("ACL", "LOG")
        assert [dict(zip(entry[::2], entry[1::2], strict=True))[b"object"] for entry in refused] == []
        assert "redis" not in log.read_text().lower()
        user = Redis.from_url(url)
        for command in REFUSED:
            with pytest.raises(ResponseError, match=r"(?i)permission"):
                await user.execute_command(*command)
        await user.aclose()
    finally:
        await admin.execute_command("ACL", "DELUSER", name)
        await admin.aclose()
