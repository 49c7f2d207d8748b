"""The spec of a structured program.

People draw the edges that leave a block directly to the next statement, and so does `graph_of`. So one
edge may leave several loops and close another.
"""

from typing import Any

from tests.engine.graph.programs import Choice, Guard, Jump, Loop, Parallel, Step

Dangling = tuple[str, str | None, str | None]
"""An edge without a target: source, port, condition."""


class Drawing:
    """The spec of a program."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.edges: list[dict[str, Any]] = []
        self.loops: list[tuple[str, list[Dangling]]] = []

    def node(self, node_id: str, type_: str, config: dict[str, Any], incoming: list[Dangling], **more: Any) -> None:
        self.nodes.append({"id": node_id, "type": type_, "config": config, **more})
        self.connect(incoming, node_id)

    def connect(self, incoming: list[Dangling], target: str) -> None:
        for source, port, condition in incoming:
            edge = {"id": f"e{len(self.edges)}", "source": source, "target": target}
            self.edges.append(edge | ({"port": port} if port else {}) | ({"condition": condition} if condition else {}))

    def step(self, step: Step, incoming: list[Dangling], **more: Any) -> None:
        count = f"({step.id}.last_output.v if {step.id}.last_output is not none else 0) + 1"
        reads = [
            f"{{{{ {other}.output.v | default(-1) if {other}.output is not none else -1 }}}}" for other in step.reads
        ]
        self.node(step.id, "transform", {"output": {"v": f"{{{{ {count} }}}}", "reads": reads}}, incoming, **more)

    def block(self, statements: list[Any], incoming: list[Dangling]) -> list[Dangling]:
        for statement in statements:
            if not incoming:
                return []  # nothing leads here
            incoming = getattr(self, f"_{type(statement).__name__.lower()}")(statement, incoming)
        return incoming

    def _step(self, step: Step, incoming: list[Dangling]) -> list[Dangling]:
        self.step(step, incoming)
        return [(step.id, None, None)]

    def _choice(self, choice: Choice, incoming: list[Dangling]) -> list[Dangling]:
        self.step(choice.step, incoming)
        name = choice.step.id
        holds = f"{name}.output.v % {choice.every} == {choice.at}"
        yes, no = (name, None, holds), (name, None, f"not ({holds})")
        if choice.is_port:
            test = f"{name}p"
            self.node(test, "conditional", {"condition": holds}, [(name, None, None)])
            yes, no = (test, "true", None), (test, "false", None)
        return [*self.block(choice.then, [yes]), *self.block(choice.otherwise, [no])]

    def _loop(self, loop: Loop, incoming: list[Dangling]) -> list[Dangling]:
        self.step(loop.head, incoming)
        head = loop.head.id
        breaks: list[Dangling] = []
        self.loops.append((head, breaks))
        test = loop.test or loop.head
        goes_on = f"{test.id}.output.v % {loop.every} != 0"
        again, out = (test.id, None, goes_on), (test.id, None, f"not ({goes_on})")
        if loop.test is None:  # while
            rest = self.block(loop.body, [again])
            self.connect(rest, head)
        else:
            rest = self.block(loop.body, [(head, None, None)]) if loop.body else [(head, None, None)]
            if loop.test is loop.head:
                self.connect([again], head)
            elif rest:
                self.step(loop.test, rest)
                self.connect([again], head)
            else:
                out = None  # type: ignore[assignment]
        self.loops.pop()
        return [*([out] if out else []), *breaks]

    def _parallel(self, parallel: Parallel, incoming: list[Dangling]) -> list[Dangling]:
        loops, self.loops = self.loops, []
        ends = [end for branch in parallel.branches for end in self.block(branch, incoming)]
        self.loops = loops
        if parallel.first is None:
            return ends
        self.step(parallel.first, ends, join="any")
        return [(parallel.first.id, None, None)]

    def _guard(self, guarded: Guard, incoming: list[Dangling]) -> list[Dangling]:
        """Add a step before the failing node, which tells the number of its visit."""
        step = guarded.step
        counter = f"{step.id}c"
        self.step(Step(counter), incoming)
        fails = f"{counter}.output.v % {step.fails_at} == 0"
        value = {"v": f"{{{{ ('!' | fromjson) if {fails} else {counter}.output.v }}}}", "reads": []}
        self.node(step.id, "transform", {"output": value}, [(counter, None, None)], onError="branch")
        return [(step.id, None, None), *self.block(guarded.handler, [(step.id, "error", None)])]

    def _jump(self, jump: Jump, incoming: list[Dangling]) -> list[Dangling]:
        head, breaks = self.loops[-1 - jump.level]
        loops, self.loops = self.loops, self.loops[: len(self.loops) - jump.leaves]
        incoming = self.block(jump.before, incoming)
        self.loops = loops
        if jump.is_break:
            breaks += incoming
        else:
            self.connect(incoming, head)
        return []


def graph_of(program: list[Any]) -> dict[str, Any]:
    """Return the spec of a program. Its outputs are the values that all nodes show at the end."""
    drawing = Drawing()
    ends = drawing.block(program, [("__start__", None, None)])
    names = [node["id"] for node in drawing.nodes]
    output = {name: f"{{{{ {name}.output if {name}.output is not none else none }}}}" for name in names}
    if ends:
        drawing.connect(ends, "end")
        drawing.nodes.append({"id": "end", "type": "end", "config": {}})
    return {"nodes": drawing.nodes, "edges": drawing.edges, "outputs": output}
