"""The head of a run: the nodes that are due next, and outside writes that lose none of them."""

from langgraph.constants import TASKS
from langgraph.types import Send

from engine.graph.channels import JOIN_BARRIER, LOOP, NODE_RECORDS, EdgeToken, Signal, Write
from engine.graph.head import HeadWrites, due_nodes

DUE, NEW = Send("due", Signal((), True)), Send("new", Signal((), True))


def test_pending_sends_and_opened_barriers_make_nodes_due() -> None:
    values = {TASKS: [DUE], JOIN_BARRIER + "join": [[], [], False]}
    assert due_nodes(values, [NODE_RECORDS, JOIN_BARRIER + "join", LOOP + "header"]) == ["due", "join", "header"]


def test_nothing_is_due_without_sends_and_opened_barriers() -> None:
    assert due_nodes({TASKS: []}, [NODE_RECORDS]) == []
    assert due_nodes({}, None) == []


def test_the_first_outside_send_brings_the_pending_sends_along_once() -> None:
    head, values = HeadWrites(), {TASKS: [DUE]}
    token: Write = (JOIN_BARRIER + "join", EdgeToken(1, (), True))
    assert head.enter(values, [token]) == [token]
    assert head.enter(values, [token, (TASKS, NEW)]) == [(TASKS, DUE), token, (TASKS, NEW)]
    assert head.enter(values, [(TASKS, NEW)]) == [(TASKS, NEW)]


def test_stored_sends_on_top_of_the_head_have_brought_the_pending_ones_along_already() -> None:
    head = HeadWrites([("task", TASKS, DUE)])
    assert head.enter({TASKS: [DUE]}, [(TASKS, NEW)]) == [(TASKS, NEW)]


def test_the_writes_of_a_task_replace_those_that_it_wrote_before() -> None:
    head = HeadWrites([("a", "x", 1), ("b", "x", 2)])
    head.replace("a", [("x", 3), ("y", 4)])
    assert head.writes == [("b", "x", 2), ("a", "x", 3), ("a", "y", 4)]
