"""Validation of specs and expressions, the catalogs, and the errors of invalid input."""

from typing import Any

import pytest

from resolvers.context import Context
from schema.schema import schema
from tests.schema_client import LINEAR, call, mutate, new_workflow

REPORT = """query($spec: JSON!) { validateSpec(spec: $spec) {
  ok specHash plan errors { field code message severity nodeId line column } warnings { code } } }"""
EVALUATE = """query($expression: String!, $context: JSON!) {
  evaluateExpression(expression: $expression, context: $context) { value type errors { message line column } } }"""


async def code_of(context: Context, query: str, /, **variables: Any) -> str:
    result = await schema.execute(query, variable_values=variables, context_value=context)
    assert result.errors is not None
    extensions = result.errors[0].extensions
    assert extensions is not None
    return str(extensions["code"])


async def test_a_valid_spec_has_a_plan(context: Context) -> None:
    report = (await call(context, REPORT, spec=LINEAR))["validateSpec"]
    assert (report["ok"], report["errors"]) == (True, [])
    assert report["plan"] == [["start"], ["end"]]
    assert len(report["specHash"]) == 64


@pytest.mark.parametrize("spec", [None, 1, "text", [], {}, {"nodes": 5}, {"nodes": [1]}, {"nodes": [], "edges": {}}])
async def test_a_value_that_is_no_spec_gets_problems_and_no_fault(context: Context, spec: object) -> None:
    query = REPORT if spec is not None else REPORT.replace("$spec: JSON!", "$spec: JSON").replace("$spec)", '"text")')
    variables = {} if spec is None else {"spec": spec}
    report = (await call(context, query.replace("($spec: JSON)", ""), **variables))["validateSpec"]
    assert not report["ok"]
    assert report["errors"]


@pytest.mark.parametrize("spec", [1, "text", [], True])
async def test_a_draft_must_be_an_object(context: Context, spec: object) -> None:
    workflow_id = await new_workflow(context)
    payload = await mutate(context, "saveDraft", "draft { id }", workflowId=workflow_id, spec=spec, expectedRevision=1)
    assert payload["errors"][0]["errors"][0]["code"] == "NOT_AN_OBJECT"


@pytest.mark.parametrize("spec", [{"nodes": 5}, {"nodes": [1], "edges": [None]}, {"nodes": [{}], "edges": [{}]}])
async def test_an_unfinished_draft_is_saved_with_its_problems(context: Context, spec: object) -> None:
    workflow_id = await new_workflow(context)
    answer = "draft { revision problems { field message } inputSchema matchesVersion { id } }"
    payload = await mutate(context, "saveDraft", answer, workflowId=workflow_id, spec=spec, expectedRevision=1)
    assert payload["errors"] == []
    assert payload["draft"]["problems"]


async def test_a_spec_over_a_mebibyte_is_refused(context: Context) -> None:
    workflow_id = await new_workflow(context)
    payload = await mutate(
        context,
        "saveDraft",
        "draft { id }",
        workflowId=workflow_id,
        spec={"nodes": [], "x": "y" * 1024 * 1024},
        expectedRevision=1,
    )
    assert payload["errors"][0]["errors"][0]["code"] == "TOO_LARGE"


@pytest.mark.parametrize(
    ("expression", "value", "type"),
    [
        ("a.b > 1", True, "boolean"),
        ("{{ a.b }} > 1", True, "boolean"),
        ("{{ a }}", {"b": 2}, "object"),
        ("Dear {{ name }}, hello", "Dear Ada, hello", "string"),
        ("name", "Ada", "string"),
        ("none", None, "null"),
    ],
)
async def test_expressions_and_templates_are_evaluated(
    context: Context, expression: str, value: object, type: str
) -> None:
    scope = {"a": {"b": 2}, "name": "Ada"}
    result = (await call(context, EVALUATE, expression=expression, context=scope))["evaluateExpression"]
    assert result == {"value": value, "type": type, "errors": []}


@pytest.mark.parametrize("expression", ["a.b >", "{{ a.b", "{% for x in y %}", "nope.nope.nope", ""])
async def test_an_invalid_expression_has_errors(context: Context, expression: str) -> None:
    result = (await call(context, EVALUATE, expression=expression, context={}))["evaluateExpression"]
    assert result["errors"], result


async def test_an_endless_template_is_stopped(context: Context) -> None:
    endless = "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}{{ a }}"
    result = (await call(context, EVALUATE, expression=endless, context={}))["evaluateExpression"]
    assert result["errors"]


async def test_the_catalog_lists_every_node_type_with_its_schema(context: Context) -> None:
    query = "{ nodeTypes { name configSchema ports portsFrom example } templates { name } triggerKinds { name } }"
    answer = await call(context, query)
    names = [kind["name"] for kind in answer["nodeTypes"]]
    assert {"start", "end", "transform", "conditional", "switch", "code", "delay"} <= set(names)
    assert all(kind["configSchema"]["type"] == "object" for kind in answer["nodeTypes"])
    assert all("error" in kind["ports"] for kind in answer["nodeTypes"])
    assert (await call(context, '{ nodeType(name: "nope") { name } }'))["nodeType"] is None


async def test_top_level_errors_carry_a_code(context: Context) -> None:
    deep = "{ workflows { nodes " + "{ draft { workflow " * 10 + "{ id }" + "}}" * 10 + "}}"
    assert await code_of(context, "{ nonsense }") == "VALIDATION"
    assert await code_of(context, "{ workflows(first: 101) { nodes { id } } }") == "VALIDATION"
    assert await code_of(context, '{ workflows(after: "?") { nodes { id } } }') == "VALIDATION"
    assert await code_of(context, "query($n: Int!) { workflows(first: $n) { nodes { id } } }", n="x") == "VALIDATION"
    assert await code_of(context, deep) == "LIMIT"
    assert await code_of(context, "{" + " ".join(f"a{n}: templates {{ name }}" for n in range(60)) + "}") == "LIMIT"
    assert await code_of(context, "{" + "templates { name } " * 5000 + "}") == "LIMIT"


@pytest.mark.parametrize("value", [10**40, float("nan"), "\0", {"a": ["\ud800"]}])
async def test_json_that_cannot_be_stored_is_refused_on_input(context: Context, value: object) -> None:
    assert await code_of(context, REPORT, spec={"inputs": value}) == "VALIDATION"


async def test_deeply_nested_literals_are_refused(context: Context) -> None:
    literal = "[" * 4000 + "]" * 4000
    query = f"{{ validateSpec(spec: {literal}) {{ ok }} }}"
    assert await code_of(context, query) in ("VALIDATION", "LIMIT")


async def test_a_fault_is_masked(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resolvers.catalog.installed_trigger_kinds", lambda: 5)
    result = await schema.execute("{ triggerKinds { name } }", context_value=context)
    assert result.errors is not None
    assert (result.errors[0].message, result.errors[0].extensions) == ("Unexpected error.", {"code": "INTERNAL"})
