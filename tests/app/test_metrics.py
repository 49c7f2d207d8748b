"""Metrics: /metrics of servers and workers, and what the dashboard and the alert rules use."""

import json
import re
import socket

import httpx
import pytest
import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from redis.asyncio import Redis

import engine.metrics as defined
from app.server.telemetry import metrics
from app.settings import Settings
from app.supervisor import supervisor
from engine.metrics import MAX_LENGTH, MAX_VALUES, OTHER, REGISTRY, bounded
from persistence.caller import Caller
from persistence.db.database import Database
from tests.app.server.sign_in.issuer import SECRET, token
from tests.app_server import serving
from tests.end_to_end.support.system import free_port
from tests.executor_worker import accept_spec, node
from tests.journal_worker import accept_run, wait_until
from tests.paths import ROOT
from tests.worker.running_worker import ended, running
from worker.metrics import MetricsPortTaken, serving_metrics

FOLDER = ROOT / "deploy" / "grafana"
WAITING = """
WITH w AS (INSERT INTO workflows (id, project_id, name) VALUES ('wf_w', $1, 'w')),
t AS (INSERT INTO triggers (id, project_id, workflow_id, kind, name, config, inputs, enabled, created_by, scopes, next_fire_at)
    SELECT 'trg_' || n, $1, 'wf_w', 'schedule', 't', '{}', '{}', n < 3, 'me', '{}', now() - make_interval(mins => n)
    FROM generate_series(0, 3) n WHERE n <> 2),
s AS (INSERT INTO signals (id, project_id, workflow_id, key, name, payload, status, sent_by, arguments_hash)
    SELECT 'sig_' || n, $1, 'wf_w', 'k', 'n', '{}', CASE WHEN n < 2 THEN 'KEPT' ELSE 'EXPIRED' END, 'me', 'h'
    FROM generate_series(0, 3) n),
e AS (INSERT INTO endpoints (id, project_id, url, description, events, workflow_ids, tags, secret, enabled, created_by)
    VALUES ('ep_e', $1, 'https://e', '', '{}', '{}', '{}', 's', true, 'me'))
INSERT INTO deliveries (id, project_id, endpoint_id, event, subject_id, payload, status)
SELECT 'dlv_' || n, $1, 'ep_e', 'RUN_FAILED', 'run_x', '{}', CASE WHEN n = 0 THEN 'PENDING' ELSE 'DELIVERED' END
FROM generate_series(0, 2) n
"""
IDS = ("run", "workflow", "version", "project", "node", "trigger", "request", "worker_id", "caller")


def families() -> dict[str, Metric]:
    return {family.name: family for family in REGISTRY.collect() if family.name.startswith("treadle_")}


def series() -> set[str]:
    """The names of all time series, as a query names them."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    return {name + suffix for name, family in families().items() for suffix in suffixes[family.type]}


def queries() -> list[str]:
    dashboard = json.loads((FOLDER / "treadle.json").read_text("utf-8"))
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    groups = yaml.safe_load((FOLDER / "alerts.yaml").read_text("utf-8"))["groups"]
    return panels + [rule["expr"] for group in groups for rule in group["rules"]]


def test_every_metric_of_the_dashboard_and_of_the_alert_rules_exists() -> None:
    used = {name for query in queries() for name in re.findall(r"treadle_\w+", query)}
    assert len(used) > 20
    assert used - series() == set()


def test_every_metric_is_in_the_dashboard() -> None:
    text = "\n".join(queries())
    assert [name for name in families() if name not in text] == []


def test_every_label_of_a_query_exists() -> None:
    labels = {label for family in vars(defined).values() for label in getattr(family, "_labelnames", ())}
    used = {name for query in queries() for name in re.findall(r"(\w+)=\"", query)}
    grouped = {
        name.strip() for query in queries() for by in re.findall(r"by \(([^)]*)\)", query) for name in by.split(",")
    }
    assert (used | grouped) - labels - {"le", "job"} == set()


def test_no_label_is_an_id() -> None:
    labels = {label for family in vars(defined).values() for label in getattr(family, "_labelnames", ())}
    assert labels & set(IDS) == set()
    assert [label for label in labels if label.endswith("id")] == []


def test_the_values_of_a_label_that_an_author_chooses_are_bounded() -> None:
    values = [bounded("test", f"code {number}") for number in range(MAX_VALUES + 10)]
    assert len(set(values)) == MAX_VALUES + 1
    assert values[-1] == OTHER
    assert bounded("test", "code 0") == "code 0"
    assert bounded("another", "x" * (MAX_LENGTH + 1)) == OTHER


Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str) -> Samples:
    """The values of a response by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_a_server_shows_runs_queue_workers_and_operations(
    client: httpx.AsyncClient,
    database: Database,
    redis: Redis,
    caller: Caller,
    project: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics, "FRESH_S", 0)

    def finished(shown: Samples) -> float:
        labels = (("code", ""), ("source", "MANUAL"), ("status", "COMPLETED"))
        return shown.get(("treadle_runs_finished_total", labels), 0)

    before = samples((await client.get("/metrics")).text)
    ended_id = await accept_spec(database, caller, project, {"nodes": [node("only")], "edges": []})
    async with running(database, redis) as runner:
        runner.poll()
        await ended(database, ended_id)
        await wait_until(lambda: not runner.tasks)
    await accept_run(database, caller, project)
    await database.pool.execute("UPDATE runs SET queued_at = now() - interval '90 s' WHERE status = 'QUEUED'")
    await database.pool.execute(WAITING, project)
    await client.post("/graphql", json={"query": "{ viewer { subject } }"})
    shown = samples((await client.get("/metrics")).text)
    assert finished(shown) == finished(before) + 1
    assert shown["treadle_queue_depth", ()] == 1
    assert 90 <= shown["treadle_queue_oldest_seconds", ()] < 120
    assert shown["treadle_runs_active", (("status", "QUEUED"),)] == 1
    assert shown["treadle_workers_live", ()] == 0
    assert 60 <= shown["treadle_trigger_lag_seconds", ()] < 90
    assert (shown["treadle_kept_events", ()], shown["treadle_deliveries_pending", ()]) == (2, 1)
    operation = (("field", "viewer"), ("outcome", "ok"), ("type", "query"))
    assert shown["treadle_graphql_operations_total", operation] >= 1
    assert shown["treadle_journal_commit_seconds_count", ()] > before.get(
        ("treadle_journal_commit_seconds_count", ()), 0
    )
    assert shown["treadle_run_queued_seconds_count", ()] >= 1
    assert shown["treadle_database_connections", (("pool", "hot"), ("state", "idle"))] >= 1
    redis_pool = [
        shown["treadle_redis_connections", (("pool", "commands"), ("state", one))] for one in ("busy", "idle")
    ]
    assert sum(redis_pool) >= 1


async def test_a_worker_serves_its_metrics_at_its_port(database: Database, redis: Redis) -> None:
    port = free_port()
    settings = Settings(metrics_port=port)
    async with running(database, redis, capacity=7) as runner:
        with serving_metrics(settings, runner):
            async with httpx.AsyncClient() as client:
                shown = samples((await client.get(f"http://127.0.0.1:{port}/metrics")).text)
            with (
                pytest.raises(MetricsPortTaken, match="choose another TREADLE_METRICS_PORT"),
                serving_metrics(settings, runner),
            ):
                pass
        with serving_metrics(Settings(metrics_port=None), runner):
            pass
    assert (shown["treadle_worker_slots", ()], shown["treadle_worker_slots_used", ()]) == (7, 0)


async def test_with_sign_in_metrics_need_a_token(database_url: str, redis_url: str) -> None:
    settings = Settings(database_url=database_url, redis_url=redis_url, jwt_secret=SecretStr(SECRET))
    async with serving(settings) as address, httpx.AsyncClient(base_url=f"http://{address}") as client:
        assert (await client.get("/metrics")).status_code == 401
        bearer = {"Authorization": f"Bearer {token(aud=None, iss=None)}"}
        response = await client.get("/metrics", headers=bearer)
    assert response.status_code == 200 and "treadle_queue_depth 0.0" in response.text


def test_each_worker_of_up_has_a_metrics_port_of_its_own() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        settings = Settings(metrics_port=9100, workers=3)
        children = supervisor._children(settings, ("postgresql://x", "redis://x"), [], listener, 0)
    ports = [child.environment["TREADLE_METRICS_PORT"] for child in children if child.name != "server"]
    assert ports == ["9100", "9101", "9102"]
