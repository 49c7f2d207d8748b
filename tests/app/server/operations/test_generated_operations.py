"""Operations that schemathesis generates from the schema get an answer that is no fault.

The suite sends the same few operations every time. `make fuzz` sends many, and others each time.
"""

import asyncio
import os
from pathlib import Path

import requests
import schemathesis
from graphql import NameNode, ObjectFieldNode, ValueNode
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, CheckContext, GenerationMode, Response
from schemathesis.graphql import nodes

from tests.schema.access.test_fuzz import LEAKS

SCHEMA = Path(__file__).parents[4] / "schema" / "schema.graphql"
OPERATIONS = int(os.environ.get("TREADLE_FUZZ_OPERATIONS", "0"))
"""How many operations the test sends. 0: the few of the suite, always the same."""
OF_THE_SUITE = 20

NAMES = st.from_regex(r"\A[_A-Za-z][_0-9A-Za-z]{0,8}\Z")
TEXTS = st.text().map(nodes.String)
TIMES = st.datetimes(timezones=st.just(None) | st.timezones()).map(lambda moment: nodes.String(moment.isoformat()))
LEAVES: st.SearchStrategy[ValueNode] = st.one_of(
    st.just(nodes.Null),
    st.booleans().map(nodes.Boolean),
    st.integers().map(nodes.Int),
    st.floats(allow_nan=False, allow_infinity=False).map(nodes.Float),
    TEXTS,
)


def containers(values: st.SearchStrategy[ValueNode]) -> st.SearchStrategy[ValueNode]:
    members = st.builds(lambda name, value: ObjectFieldNode(name=NameNode(value=name), value=value), NAMES, values)
    return st.lists(values, max_size=3).map(nodes.List) | st.lists(members, max_size=3).map(nodes.Object)


schemathesis.graphql.scalar("JSON", st.recursive(LEAVES, containers, max_leaves=5))
schemathesis.graphql.scalar("DateTime", TIMES | TEXTS)


def answered_clearly(ctx: CheckContext, response: Response, case: Case) -> None:
    """Check that an operation was executed, or refused with a code and a message for people.

    The check of schemathesis, `not_a_server_error`, takes every error of a field for a fault.
    """
    assert response.status_code in (200, 400), response.status_code
    for error in response.json().get("errors", []):
        assert error["extensions"]["code"] != "INTERNAL", error
        assert not [leak for leak in LEAKS if leak in error["message"]], error


def generated() -> list[Case]:
    """Return valid and invalid operations. They are made before they are sent, because Hypothesis
    allows no other thread to use `random` meanwhile.
    """
    api, cases = schemathesis.graphql.from_path(SCHEMA), list[Case]()

    @settings(
        max_examples=OPERATIONS or OF_THE_SUITE,
        derandomize=not OPERATIONS,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(api.as_strategy(generation_mode=mode) for mode in GenerationMode))
    def generate(case: Case) -> None:
        cases.append(case)

    generate()
    return cases


def send(cases: list[Case], url: str) -> set[str]:
    """Send operations, check the answers, and return their codes; `""`: executed without an error."""
    codes = set()
    with requests.Session() as session:
        for case in cases:
            response = case.call_and_validate(url, session, checks=[answered_clearly])
            errors = response.json().get("errors", [])
            codes |= {error["extensions"]["code"] for error in errors} or {""}
    return codes


async def test_no_generated_operation_is_a_fault(address: str) -> None:
    cases = generated()
    codes = await asyncio.to_thread(send, cases, f"http://{address}/graphql")
    assert len(cases) >= OF_THE_SUITE
    assert {"", "VALIDATION"} <= codes
