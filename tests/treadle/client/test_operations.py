"""The operations of treadle.client fit the schema, and their results lose no field."""

import inspect
from typing import Any

import pytest

from tests.treadle.client.schema_samples import Sample, members
from treadle.client import AsyncClient, Client, OperationError, ProblemError, RunView, operations
from treadle.client.documents import _definitions, document
from treadle.client.errors import PROBLEM_ERRORS, problem_error
from treadle.client.models import ApiModel
from treadle.client.operations import Operation
from treadle.client.run_watch import RunWatch

ARGUMENTS: dict[str, Any] = {
    "id": "id_1", "run_id": "run_1", "workflow_id": "wf_1", "version_id": "ver_1", "checkpoint_id": "chk_1", "name": "A",
    "spec": {}, "expected_revision": 1,
}  # fmt: skip
NOT_METHODS = ("custom", "document", "existing", "problem_error", "start", "updates_of", "dataclass")
FUNCTIONS = {
    name: function
    for name, function in inspect.getmembers(operations, inspect.isfunction)
    if not name.startswith("_") and name not in NOT_METHODS
}


def operation(name: str) -> Operation[Any]:
    """Create an operation with its required arguments."""
    parameters = inspect.signature(FUNCTIONS[name]).parameters.values()
    required = {one.name: ARGUMENTS[one.name] for one in parameters if one.default is inspect.Parameter.empty}
    created: Operation[Any] = FUNCTIONS[name](**required)
    return created


def mutations() -> list[str]:
    return [name for name in FUNCTIONS if operation(name).text.startswith("mutation")]


def dumped(value: Any) -> Any:
    if isinstance(value, ApiModel):
        return value.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return [dumped(one) for one in value] if isinstance(value, list) else value


def without_problems(data: dict[str, Any]) -> dict[str, Any]:
    """Return the data of a mutation that succeeded."""
    return {
        name: {**value, "errors": []} if isinstance(value, dict) and "errors" in value and "ok" not in value else value
        for name, value in data.items()
    }


def test_both_clients_have_a_method_for_each_operation() -> None:
    for client in (Client, AsyncClient):
        assert FUNCTIONS.keys() - vars(client).keys() == set()
    public = [name for name in vars(AsyncClient) if not name.startswith("_")]
    assert sorted(name if name != "aclose" else "close" for name in public) == sorted(
        name for name in vars(Client) if not name.startswith("_")
    )


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_result_has_every_field_that_the_operation_selects(name: str) -> None:
    made = operation(name)
    for wait in members("Wait") if name == "waits" else [""]:
        sample = Sample(made.text, chosen={"Wait": wait} if wait else None)
        data = without_problems(sample.data())
        selected = data[sample.field]
        if name in ("node_states", "waits"):
            (selected,) = selected.values()
        elif made.text.startswith("mutation"):
            (selected,) = (value for field, value in selected.items() if field != "errors")
        assert dumped(made.read(data)) == selected


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
@pytest.mark.parametrize("enum_value", [None, "SOMETHING_NEW"])
def test_a_result_with_nulls_and_new_enum_members_is_read(name: str, enum_value: str | None) -> None:
    made = operation(name)
    # The object of a mutation is null only if there are problems.
    has_nulls = not made.text.startswith("mutation")
    data = without_problems(Sample(made.text, has_nulls=has_nulls, enum_value=enum_value).data())
    assert made.read(data) is not None


@pytest.mark.parametrize("name", ["run", "workflow", "waits", "node_states"])
def test_an_object_that_does_not_exist_is_none(name: str) -> None:
    made = operation(name)
    assert made.read({Sample(made.text).field: None}) is None


@pytest.mark.parametrize("name", mutations())
def test_a_mutation_sends_only_fields_of_its_input_and_no_nulls(name: str) -> None:
    made = operation(name)
    sent = made.variables["input"]
    assert set(sent) <= Sample(made.text).input_fields
    assert None not in sent.values()
    if "idempotencyKey" in sent:
        assert made.is_repeatable
        assert operation(name).variables["input"]["idempotencyKey"] != sent["idempotencyKey"]


@pytest.mark.parametrize("name", mutations())
@pytest.mark.parametrize("problem", members("Problem"))
def test_a_refused_mutation_raises_the_error_of_its_problem_type(name: str, problem: str) -> None:
    made = operation(name)
    data = Sample(made.text, chosen={"Problem": problem}).data()
    with pytest.raises(ProblemError) as raised:
        made.read(data)
    assert type(raised.value) is PROBLEM_ERRORS[problem]
    assert (raised.value.code, raised.value.detail, raised.value.status) == ("VALIDATION", "text", 7)
    extra = {"errors", "resource_id", "current_revision", "draft", "run_status"} & set(dir(raised.value))
    assert all(getattr(raised.value, field) is not None for field in extra)


def test_every_problem_type_of_the_schema_has_an_error_class() -> None:
    assert sorted(PROBLEM_ERRORS) == members("Problem")
    new = {"__typename": "NewProblem", "code": "A", "type": "a", "title": "A", "detail": "A", "status": 1}
    assert type(problem_error([new])) is ProblemError


@pytest.mark.parametrize("kind", members("RunUpdate"))
def test_each_update_of_a_run_keeps_its_fields_and_changes_a_view(kind: str) -> None:
    made = operations.updates_of("run_1", None, None)
    for has_nulls in (False, True):
        message = Sample(made.text, chosen={"RunUpdate": kind}, has_nulls=has_nulls).data()["runUpdates"]
        update = RunWatch("run_1", None, None).receive(message)
        assert update is not None
        assert dumped(update) == message
        view = RunView()
        view.apply(update)
        view.apply(update)
        assert view.seq == 7


def test_a_view_keeps_the_newest_lines_of_the_log_each_once() -> None:
    line = Sample(document("WatchRun"), chosen={"RunUpdate": "LogRecorded"}).data()["runUpdates"]
    view = RunView(log_lines=2)
    for seq in (1, 2, 3, 2, 3):
        update = RunWatch("run_1", None, None).receive({**line, "seq": seq})
        assert update is not None
        view.apply(update)
    assert ([line.seq for line in view.log], view.seq) == ([2, 3], 3)


def test_an_update_that_a_newer_server_has_added_is_skipped() -> None:
    assert RunWatch("run_1", None, None).receive({"__typename": "SomethingNew"}) is None


def test_every_document_is_used_and_has_only_the_fragments_that_it_needs() -> None:
    names = [name for name, text in _definitions().items() if not text.startswith("fragment")]
    used = {operation(name).text for name in FUNCTIONS} | {operations.updates_of("r", None, None).text}
    assert used == {document(name) for name in names}
    assert "fragment" not in document("Viewer")


@pytest.mark.parametrize(
    ("text", "repeatable"),
    [
        ("{ viewer { subject } }", True),
        ("query A { a }", True),
        ("mutation { a }", False),
        ("subscription { a }", True),
    ],
)
def test_a_custom_document_is_repeatable_unless_it_has_a_mutation(text: str, repeatable: bool) -> None:
    assert operations.custom(text, None).is_repeatable is repeatable
    assert operations.custom(text, None, is_repeatable=True).is_repeatable


def test_an_operation_error_has_the_code_of_the_first_error() -> None:
    error = OperationError([{"message": "No.", "extensions": {"code": "LIMIT", "retryAfterS": 3}}, {"message": "B"}])
    assert (error.code, error.retry_after_s, str(error)) == ("LIMIT", 3, "No.; B")
    assert OperationError([{"message": "No."}]).code == "INTERNAL"
