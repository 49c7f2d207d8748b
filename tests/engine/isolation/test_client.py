"""Templates without an end run in a child process: no template of an author blocks or ends ours."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from engine.errors import NodeFailure
from engine.expressions.analysis import cost_of
from engine.expressions.cost import _LIGHT_FILTERS, CostEstimate
from engine.expressions.evaluator import ExpressionError, evaluate, render
from engine.expressions.names import FILTERS
from engine.isolation import client
from engine.isolation.server import NICENESS
from tests.engine.node_runner import NodeHarness

SCOPE: dict[str, Any] = {
    "input": {"n": 7, "price": 2.5, "name": "Ann", "rows": [{"n": 1}, {"n": 2}], "big": list(range(20_000))},
    "nodes": {"a-b": {"output": {"n": 3}}},
}
DOUBLED = "{% set x = 'ab' * 50000 %}" + "{% set x = x ~ x %}" * 20 + "{{ x | length }}"


def process_id() -> int:
    process = client._idle[-1].process
    assert process is not None
    return process._process.pid


@pytest.mark.parametrize(
    "template",
    [
        "{{ ([1] * 100000) * 1000 }}",
        "{{ [[input.big] * 1000] * 1000 }}",
        "{{ ('ab' * 50000) | replace('a', 'a' * 100000) | length }}",
        "{{ input.big | join('ab' * 50000) | length }}",
        "{{ '{:>1000000000}'.format(1) | length }}",
        "{% for i in range(5000) %}{{ 20001 in input.big }}{% endfor %}",
        "{% for i in range(9000) %}{{ range(100000) | sum }}{% endfor %}",
        "{% for i in range(2) recursive %}{{ loop(range(2)) }}{% endfor %}",
        DOUBLED,
    ],
    ids=lambda template: template[:40],
)
def test_a_template_that_exceeds_a_limit_is_stopped_and_the_next_one_works(template: str) -> None:
    started_at = time.process_time()
    with pytest.raises(ExpressionError):
        render(template, SCOPE)
    assert time.process_time() - started_at < 1, "the work was done in this process"
    assert evaluate("input.n * 2", SCOPE) == 14
    assert render("{% for row in input.rows %}{{ row.n }};{% endfor %}", SCOPE) == "1;2;"


@pytest.mark.parametrize(
    "template",
    [
        "{{ " + "1 + " * 20_000 + "1 }}",
        "{{ " + "not " * 50_000 + "1 }}",
        "{{ a" + "[0]" * 50_000 + " }}",
        "{% if a %}" + "{% elif b %}" * 20_000 + "{% endif %}",
    ],
    ids=lambda template: template[:14],
)
def test_code_that_is_nested_too_deeply_is_an_error_before_it_is_parsed(template: str) -> None:
    with pytest.raises(ExpressionError):
        render(template, SCOPE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("input.name", CostEstimate.LIGHT),
        ("{{ input.name | upper }} and {{ input.rows | length }}", CostEstimate.LIGHT),
        ("{% if input.n > 3 and (input.n < 9) %}{{ input.name.upper() }}{% endif %}", CostEstimate.LIGHT),
        ("{{ input.rows | map(attribute='n') | list }}", CostEstimate.HEAVY),
        ("{{ input.rows | join(', ') }}", CostEstimate.LIGHT),
        ("{{ input.rows | join(input.name) }}", CostEstimate.HEAVY),
        ("{{ input.price * input.n }}", CostEstimate.NUMBERS),
        ("{{ nodes['a-b'].output.n * 2 }}", CostEstimate.NUMBERS),
        ("{{ 'x' * input.n }}", CostEstimate.HEAVY),
        ("{{ [1] * input.n }}", CostEstimate.HEAVY),
        ("{{ input.name.replace('a', 'b') }}", CostEstimate.HEAVY),
        ("{{ range(3) }}", CostEstimate.HEAVY),
        ("{% for row in input.rows %}{% endfor %}", CostEstimate.HEAVY),
        ("{% set x = 1 %}{{ x }}", CostEstimate.HEAVY),
    ],
)
def test_the_cost_of_a_text_is_estimated(text: str, expected: CostEstimate) -> None:
    assert cost_of(text, expression="{" not in text) is expected


def test_every_light_filter_exists() -> None:
    assert _LIGHT_FILTERS <= FILTERS


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("input.price * input.n", 17.5),
        ("input.name * 2", "AnnAnn"),
        ("(input.rows * 2) | length", 4),
        ("input.big | sum", 199_990_000),
        ("nodes['a-b'].output.n * 2", 6),
        ("nodes['a-b'].output * 1 if false else range(2) | list", [0, 1]),
        ("input.rows | map(attribute='n') | list", [1, 2]),
        ("input.rows", [{"n": 1}, {"n": 2}]),
        ("range(3) | list", [0, 1, 2]),
        ("{'a': range(2) | list}", {"a": [0, 1]}),
    ],
)
def test_a_value_is_the_same_in_this_process_and_in_the_child(expression: str, value: Any) -> None:
    assert evaluate(expression, SCOPE) == value


def test_an_error_in_the_child_process_has_its_line() -> None:
    with pytest.raises(ExpressionError) as error:
        render("{% for x in input.rows %}\n{{ x.nope }}{% endfor %}", SCOPE)
    assert "undefined" in error.value.message and error.value.line == 2


def test_a_task_runs_again_after_another_process_killed_the_child() -> None:
    assert evaluate("range(2) | list", SCOPE) == [0, 1]
    os.kill(process_id(), signal.SIGKILL)
    assert evaluate("range(2) | list", SCOPE) == [0, 1]


def test_the_child_ends_when_its_socket_closes() -> None:
    assert evaluate("range(2) | list", SCOPE) == [0, 1]
    helper = client._idle.pop()
    assert helper.process is not None
    assert helper.process.end() == 0


NESTED: dict[str, Any] = {"a": {"output": [[0]] * 100_000}, "n": {"output": list(range(15_000))}}


@pytest.mark.parametrize(
    "text",
    [
        "{{ a.output }}",
        "{{ [a.output] }}",
        "x{{ n.output }}",
        "{{ n.output | tojson }}",
        "{{ n.output ~ '' }}",
        "{{ 1 }}",
    ],
)
def test_many_texts_over_much_data_are_evaluated_in_the_child(text: str) -> None:
    started_at = time.process_time()
    try:
        rendered = render([text] * 5_000, NESTED)
    except ExpressionError as error:
        assert "takes more than" in error.message or "larger than 8 MiB" in error.message
    else:
        assert len(rendered) == 5_000
    assert time.process_time() - started_at < 0.3


async def test_templates_whose_result_is_too_large_to_store_fail_their_node() -> None:
    harness = NodeHarness({"a": {"output": "x" * 1_000_000}})
    with pytest.raises(NodeFailure, match="larger than 8 MiB") as failed:
        await harness.run("human", {"prompt": ["{{ a.output }}"] * 100})
    assert failed.value.code == "TEMPLATE"


def test_a_view_that_becomes_a_long_text_writes_nothing_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    assert evaluate("n.output | upper | length", NESTED) > 15_000
    assert capfd.readouterr().err == ""


def test_a_helper_has_no_variable_of_python_and_no_packages_of_its_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n")
    (tmp_path / "orjson.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "sitecustomize.py"))
    monkeypatch.setenv("TREADLE_SECRET_KEY", "a key")
    monkeypatch.chdir(tmp_path)
    process = client._Process()
    try:
        request = orjson.dumps(["engine.values.json_schema.schema_violations", {}])
        process.request(request)
        environment = Path(f"/proc/{process._process.pid}/environ").read_bytes()
    finally:
        process.end()
    assert b"PYTHON" not in environment
    assert b"TREADLE" not in environment
    assert sorted(path.name for path in tmp_path.iterdir()) == ["orjson.py", "sitecustomize.py"]


def test_heavy_tasks_have_a_lower_priority_than_the_process_that_sends_them() -> None:
    heavy = "{% for i in range(2000) %}{{ range(90) | sum }}{% endfor %}"
    render(heavy, SCOPE)
    pid = process_id()
    assert os.getpriority(os.PRIO_PROCESS, pid) == min(os.getpriority(os.PRIO_PROCESS, 0) + NICENESS, 19)
    group, until = Path(f"/proc/{pid}/autogroup"), time.monotonic() + 10
    # The kernel refuses a change soon after another one, and the next task tries it again.
    while group.exists() and group.read_text().split()[-1] != str(NICENESS):
        assert time.monotonic() < until, "the session of the helper has the priority of a server"
        render(heavy, SCOPE)
