"""The workflows of the load: each case is created from a random source, and has an expected result.

Durations are short, so that many runs are active at the same time. Outputs depend only on inputs: a
run that has lost its worker ten times must have the same output as a run that has lost none.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from random import Random
from typing import Any

from engine.states import RunStatus

Spec = dict[str, Any]
Node = dict[str, Any]


class Action(StrEnum):
    """The action of a client on a run that it has started."""

    NOTHING = "nothing"
    CANCEL = "cancel"
    PAUSE = "pause"
    REWIND = "rewind"
    STEP = "step"
    ANSWER = "answer"
    SIGNAL = "signal"
    CALLBACK = "callback"


@dataclass(frozen=True, slots=True)
class ChaosCase:
    """A test case: spec and inputs of a run, the action of its client, the expected result."""

    name: str
    spec: Spec
    output: Any = None
    status: RunStatus = RunStatus.COMPLETED
    action: Action = Action.NOTHING
    inputs: Any = None

    def accepts(self, status: str, output: Any) -> bool:
        """Return whether a result is correct.

        A cancel may come too late. Then the run must end as it would without the cancel.
        """
        if self.action is Action.CANCEL and status == RunStatus.CANCELLED:
            return True
        return status == self.status and (self.status is not RunStatus.COMPLETED or output == self.output)

    @property
    def has_children(self) -> bool:
        return any(node["type"] == SUBWORKFLOW for node in self.spec["nodes"])


def random_case(rng: Random) -> ChaosCase:
    """Create a random case."""
    return rng.choice(_CASES)(rng)


def _chain(rng: Random) -> ChaosCase:
    number = rng.randrange(100)
    nodes = [
        work("a", "{{ input.n + 1 }}", _short(rng)),
        transform("b", "{{ a.output * 2 }}"),
        work("c", "{{ b.output + 1 }}", _short(rng)),
        code("d", "return value * 3", value="{{ c.output }}"),
        work("e", "{{ d.output - 1 }}", _short(rng)),
    ]
    spec = {"nodes": nodes, "edges": edges("a>b b>c c>d d>e"), "outputs": {"e": "{{ e.output }}"}}
    return ChaosCase("chain", spec, {"e": ((number + 1) * 2 + 1) * 3 - 1}, inputs={"n": number})


def _long_chain(rng: Random) -> ChaosCase:
    """More quick nodes than the graph may execute ahead of the journal, around two slow nodes."""
    names = [f"t{number}" for number in range(70)]
    nodes = [transform(names[0], 1)]
    for before, name in pairwise(names):
        after, slow = f"{{{{ {before}.output + 1 }}}}", name in ("t20", "t50")
        nodes.append(work(name, after, 0.5) if slow else transform(name, after))
    arrows = edges(" ".join(f"{before}>{after}" for before, after in pairwise(names)))
    return ChaosCase("long chain", {"nodes": nodes, "edges": arrows}, {"t69": 70})


def _join(rng: Random) -> ChaosCase:
    nodes = [
        transform("s", 1),
        work("p", "{{ s.output + 1 }}", _short(rng)),
        work("q", "{{ s.output + 2 }}", _short(rng) * 2),
        work("r", "{{ s.output + 3 }}", 0.01),
        transform("r2", "{{ r.output * 10 }}"),
        transform("j", "{{ p.output + q.output + r2.output }}"),
        work("z", "{{ j.output }}", _short(rng)),
    ]
    return ChaosCase("join", {"nodes": nodes, "edges": edges("s>p s>q s>r r>r2 p>j q>j r2>j j>z")}, {"z": 45})


def _any_join(rng: Random) -> ChaosCase:
    nodes = [
        transform("a", 1),
        work("b", 2, 2.0),
        work("c", 3, 0.05),
        transform("j", "done", join="any"),
        work("z", "{{ j.output }}", 0.1),
    ]
    spec = {"nodes": nodes, "edges": edges("a>b a>c b>j c>j j>z")}
    return ChaosCase("any join", spec, {"z": "done"})


def _loop(rng: Random) -> ChaosCase:
    rounds = rng.randint(3, 8)
    nodes = [
        transform("s", 0),
        transform("h", "{{ (h.output or 0) + 1 }}"),
        work("w", "{{ h.output }}", 0.3),
        transform("x", "{{ w.output }}"),
        work("slow", 100, 0.5),
        transform("end", "{{ x.output + slow.output }}"),
    ]
    arrows = edges("s>h h>w w>h w>x s>slow slow>end x>end", w_h=f"w.output < {rounds}", w_x=f"w.output >= {rounds}")
    return ChaosCase("loop", {"nodes": nodes, "edges": arrows}, {"end": rounds + 100})


def _nested_loops(rng: Random) -> ChaosCase:
    def count(name: str) -> str:
        return f"{{{{ ({name}.output or 0) + 1 }}}}"

    nodes = [
        transform("o", count("o")),
        work("i", count("i"), 0.2),
        transform("k", count("k")),
        transform("dead", 0),
        work("e", count("e"), 0.2),
        transform("x", "{{ [o.output, i.output, k.output, e.output] }}"),
    ]
    arrows = edges(
        "__start__>o o>i i>k k>i k>dead k>e dead>x e>o e>x",
        k_i="k.output % 3 != 0",
        k_dead="false",
        k_e="k.output % 3 == 0",
        e_o="e.output < 2",
        e_x="e.output >= 2",
    )
    return ChaosCase("nested loops", {"nodes": nodes, "edges": arrows}, {"x": [2, 6, 6, 2]})


def _nap(rng: Random) -> ChaosCase:
    """Short timers, for which the run stays RUNNING in its worker."""
    nodes = [work("a", 1, _short(rng)), delay("d", rng.choice([0.3, 1.5, 3.0])), delay("d2", 1.0), transform("z", "up")]
    return ChaosCase("nap", {"nodes": nodes, "edges": edges("a>d a>d2 d>z d2>z")}, {"z": "up"})


def _sleep(rng: Random) -> ChaosCase:
    """Long timers, for which the run is WAITING and needs no worker."""
    nodes = [work("a", 1, 0.05), delay("d", rng.choice([6.0, 8.5])), delay("d2", 7.0), work("z", "up", 0.05)]
    return ChaosCase("sleep", {"nodes": nodes, "edges": edges("a>d a>d2 d>z d2>z")}, {"z": "up"})


def _flaky(rng: Random) -> ChaosCase:
    retry = {"maxAttempts": 3, "backoffS": 0.2, "multiplier": 2, "maxS": 1}
    nodes = [
        work("a", 1, 0.05),
        work("f", "{{ a.output + 1 }}", 0.1, failures=2, retry=retry),
        transform("z", "{{ f.output }}"),
    ]
    return ChaosCase("flaky", {"nodes": nodes, "edges": edges("a>f f>z")}, {"z": 2})


def _handled(rng: Random) -> ChaosCase:
    retry = {"maxAttempts": 2, "backoffS": 0.1, "multiplier": 1, "maxS": 1}
    nodes = [
        work("f", 1, 0.1, failures=99, retry=retry, onError="branch"),
        transform("well", 1),
        work("ill", "{{ f.output.error.code }}", 0.1),
    ]
    arrows = [{"source": "f", "target": "well"}, {"source": "f", "target": "ill", "port": "error"}]
    return ChaosCase("handled failure", {"nodes": nodes, "edges": arrows}, {"ill": "FLAKY"})


def _failing(rng: Random) -> ChaosCase:
    nodes = [work("a", 1, _short(rng)), work("f", 1, 0.1, failures=99), work("z", 1)]
    return ChaosCase("failing", {"nodes": nodes, "edges": edges("a>f f>z")}, status=RunStatus.FAILED)


def _long_backoff(rng: Random) -> ChaosCase:
    """Backoffs for which the run is WAITING and needs no worker, beside a short one."""
    long = {"maxAttempts": 3, "backoffS": rng.choice([5.5, 7.0]), "multiplier": 1}
    nodes = [
        work("f", 1, 0.1, failures=1, retry=long),
        work("g", 2, 0.1, failures=2, retry={**long, "backoffS": 1.0}),
        transform("z", "{{ f.output + g.output }}"),
    ]
    return ChaosCase("long backoff", {"nodes": nodes, "edges": edges("f>z g>z")}, {"z": 3})


def _map_of_nodes(rng: Random) -> ChaosCase:
    """A map over one node, whose items take longer than a worker lives and are tried twice."""
    count = rng.randint(8, 20)
    item = {
        "type": "chaos_work",
        "config": {"output": "{{ item * 2 }}", "seconds": 0.3, "failures": rng.choice([0, 1])},
        "retry": {"maxAttempts": 2, "backoffS": 0.2, "multiplier": 1},
    }
    return _map_case("map of nodes", count, {"node": item})


def _map_of_specs(rng: Random) -> ChaosCase:
    """A map over a spec with a branch, a quick node and a slow one."""
    count = rng.randint(4, 10)
    nodes = [
        work("a", "{{ item + 1 }}", 0.2),
        transform("b", "{{ a.output - 1 }}"),
        {"id": "odd", "type": "conditional", "config": {"condition": "b.output % 2 == 1"}},
        work("c", "{{ b.output * 2 }}", 0.3),
        transform("d", "{{ b.output * 2 }}"),
    ]
    branches = [{"source": "odd", "target": target, "port": port} for target, port in (("c", "true"), ("d", "false"))]
    output = "{{ c.output if c.output is not none else d.output }}"
    spec = {"nodes": nodes, "edges": [*edges("a>b b>odd"), *branches], "outputs": {"v": output}}
    case = _map_case("map of specs", count, {"spec": spec})
    return replace(case, output={"z": [{"v": 2 * index} for index in range(count)]})


def _map_case(name: str, count: int, body: dict[str, Any]) -> ChaosCase:
    nodes = [
        transform("s", list(range(count))),
        {"id": "m", "type": "map", "config": {"items": "{{ s.output }}", "concurrency": 3, **body}},
        work("slow", 1, 1.0),
        transform("z", "{{ m.output.items }}"),
    ]
    spec = {"nodes": nodes, "edges": edges("s>m s>slow m>z slow>z")}
    return ChaosCase(name, spec, {"z": [2 * index for index in range(count)]})


def _sandbox(rng: Random) -> ChaosCase:
    size = rng.choice([1000, 10_000, 40_000])
    nodes = [work("a", size), code("c", COUNTING, n="{{ a.output }}"), transform("z", "{{ c.output }}")]
    return ChaosCase("sandbox", {"nodes": nodes, "edges": edges("a>c c>z")}, {"z": sum(i % 7 for i in range(size))})


def _questions(rng: Random) -> ChaosCase:
    nodes = [work("a", 1, 0.05), ask("q"), ask("r"), work("z", "{{ q.output + r.output }}", 0.1)]
    arrows = edges("a>q a>r") + [{"source": name, "target": "z", "port": "answered"} for name in "qr"]
    return ChaosCase("questions", {"nodes": nodes, "edges": arrows}, {"z": 2 * ANSWER}, action=Action.ANSWER)


def _expired(rng: Random) -> ChaosCase:
    nodes = [ask("q", rng.choice([1.0, 6.5])), work("late", "nobody", 0.05)]
    arrows = [{"source": "q", "target": "late", "port": "expired"}]
    return ChaosCase("expired question", {"nodes": nodes, "edges": arrows}, {"late": "nobody"})


def _signal(rng: Random) -> ChaosCase:
    """A wait for an event, which may come before the wait begins."""
    nodes = [work("a", 1, _short(rng)), wait_event("e"), work("z", "{{ e.output.n + a.output }}", 0.05)]
    arrows = [*edges("a>e"), {"source": "e", "target": "z", "port": "received"}]
    return ChaosCase("event", {"nodes": nodes, "edges": arrows}, {"z": ANSWER + 1}, action=Action.SIGNAL)


def _cancelled(rng: Random) -> ChaosCase:
    nodes = [work("a", 1, 0.2), work("b", 2, rng.choice([1.0, 4.0, 8.0])), delay("d", 8.0), ask("q"), transform("z", 3)]
    arrows = [*edges("a>b a>d a>q b>z d>z"), {"source": "q", "target": "z", "port": "answered"}]
    return ChaosCase("cancelled", {"nodes": nodes, "edges": arrows}, {"z": 3}, action=Action.CANCEL)


def _parent(rng: Random) -> ChaosCase:
    """A parent with a short child, and a long one for which it waits without a worker."""
    number = rng.randrange(100)
    nodes = [
        work("a", number, _short(rng)),
        subworkflow("quick", "{{ a.output }}", 0.1),
        subworkflow("slow", "{{ a.output + 1 }}", rng.choice([1.5, 6.0])),
        work("b", 1, 1.0),
        transform("z", "{{ quick.output.z + slow.output.z + b.output }}"),
    ]
    spec = {"nodes": nodes, "edges": edges("a>quick a>slow a>b quick>z slow>z b>z")}
    return ChaosCase("parent", spec, {"z": 4 * number + 3})


def _with(action: Action, make: Callable[[Random], ChaosCase]) -> Callable[[Random], ChaosCase]:
    def make_with_action(rng: Random) -> ChaosCase:
        case = make(rng)
        return ChaosCase(f"{case.name}, {action}", case.spec, case.output, case.status, action, case.inputs)

    return make_with_action


ANSWER = 21
"""The answer that clients give to every question, and the payload of every event."""
EVENT = "chaos"
"""The name of every event."""
SUBWORKFLOW = "chaos_subworkflow"
COUNTING = """total = 0
    for i in range(n):
        total = total + i % 7
    print('counted', n)
    return total"""
_CASES: list[Callable[[Random], ChaosCase]] = [
    *(_chain, _chain, _long_chain, _join, _join, _any_join, _loop, _loop, _nested_loops, _nap, _sleep),
    *(_flaky, _handled, _failing, _sandbox, _questions, _expired, _cancelled, _cancelled),
    *(_signal, _signal, _with(Action.CALLBACK, _signal), _with(Action.CANCEL, _signal)),
    *(_with(Action.PAUSE, _join), _with(Action.PAUSE, _loop), _with(Action.REWIND, _chain), _with(Action.STEP, _chain)),
    *(_long_backoff, _with(Action.PAUSE, _long_backoff), _with(Action.REWIND, _flaky), _with(Action.CANCEL, _flaky)),
    *(_map_of_nodes, _map_of_nodes, _map_of_specs, _map_of_specs),
    *(_with(Action.PAUSE, _map_of_nodes), _with(Action.REWIND, _map_of_specs), _with(Action.CANCEL, _map_of_nodes)),
    *(_parent, _parent, _with(Action.CANCEL, _parent), _with(Action.PAUSE, _parent), _with(Action.REWIND, _parent)),
]


def child_spec() -> Spec:
    """Return the workflow of child runs: with inputs {n, seconds}, it returns 2 n after a delay."""
    nodes = [work("a", "{{ input.n }}", 0.3), delay("d", "{{ input.seconds }}"), work("z", "{{ a.output * 2 }}")]
    return {"nodes": nodes, "edges": edges("a>d d>z"), "outputs": {"z": "{{ z.output }}"}}


def event_spec() -> Spec:
    """Return the workflow of triggers: its output is the key of the event that has started the run."""
    nodes = [work("a", "{{ input.key }}", 0.1), transform("z", "{{ a.output }}")]
    return {"nodes": nodes, "edges": edges("a>z")}


def event_case(key: str) -> ChaosCase:
    return ChaosCase("trigger", event_spec(), {"z": key})


def _short(rng: Random) -> float:
    """Return one of few durations in seconds, so that the load has few different specs."""
    return rng.choice([0.2, 0.8, 2.0])


def work(name: str, output: Any, seconds: float = 0.05, failures: int = 0, **fields: Any) -> Node:
    config = {"output": output, "seconds": seconds, "failures": failures}
    return {"id": name, "type": "chaos_work", "config": config, **fields}


def transform(name: str, output: Any, **fields: Any) -> Node:
    return {"id": name, "type": "chaos_transform", "config": {"output": output}, **fields}


def code(name: str, body: str, **mapping: str) -> Node:
    source = f"def process({', '.join(mapping)}):\n    {body}\n"
    return {"id": name, "type": "chaos_code", "config": {"code": source, "input_mapping": mapping}}


def delay(name: str, seconds: float | str) -> Node:
    return {"id": name, "type": "chaos_delay", "config": {"seconds": seconds}}


def subworkflow(name: str, number: str, seconds: float) -> Node:
    config = {"workflow": "{{ input.child }}", "inputs": {"n": number, "seconds": seconds}}
    return {"id": name, "type": SUBWORKFLOW, "config": config}


def ask(name: str, expires_s: float = 3600) -> Node:
    return {"id": name, "type": "chaos_ask", "config": {"expiresS": expires_s}}


def wait_event(name: str) -> Node:
    return {"id": name, "type": "chaos_wait_event", "config": {"name": EVENT}}


def edges(text: str, **conditions: str) -> list[dict[str, Any]]:
    """Parse edges such as `a>b b>c`.

    A keyword argument `a_b` is the condition of the edge `a>b`.
    """
    pairs = [arrow.split(">") for arrow in text.split()]
    return [{"source": a, "target": b, "condition": conditions.get(f"{a}_{b}")} for a, b in pairs]
