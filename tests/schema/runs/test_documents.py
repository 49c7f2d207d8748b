"""The operations in the documents are valid, and those of docs/api.md work in their order."""

import re
from typing import Any

import pytest
from graphql import parse, validate

from resolvers.context import Context
from schema.schema import schema
from tests.paths import ROOT
from tests.schema_client import call, with_output

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OPERATIONS = [
    (path.name, operation)
    for path in PAGES
    for operation in re.findall(r"```graphql\n(.*?)```", path.read_text(), re.DOTALL)
]
API = [operation for page, operation in OPERATIONS if page == "api.md"]


@pytest.mark.parametrize(("page", "operation"), OPERATIONS)
def test_an_operation_in_a_document_is_complete_and_valid(page: str, operation: str) -> None:
    assert validate(schema._schema, parse(operation)) == [], page


async def test_the_operations_of_the_page_of_the_api_work_in_their_order(context: Context) -> None:
    variables: dict[str, Any] = {"name": "Greeting", "spec": with_output("Hello"), "inputs": {}, "key": "order-1"}
    names = []
    for operation in API:
        used = {name: variables[name] for name in re.findall(r"\$(\w+):", operation) if name in variables}
        data = await call(context, operation, **used)
        [(field, value)] = data.items()
        assert value.get("errors", []) == [], value
        names.append(field)
        if workflow := value.get("workflow"):
            variables |= {"workflowId": workflow["id"], "revision": workflow["draft"]["revision"]}
        if draft := value.get("draft"):
            assert draft["problems"] == []
            variables["revision"] = draft["revision"]
        if run := value.get("run"):
            variables["runId"] = run["id"]
    assert names == ["createWorkflow", "saveDraft", "createVersion", "runWorkflow", "run", "workflow"]
    assert [run["id"] for run in value["runs"]["nodes"]] == [variables["runId"]]
