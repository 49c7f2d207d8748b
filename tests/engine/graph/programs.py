"""Random structured programs, their graphs, and an interpreter that says how each graph must run.

A program is a tree of steps, choices, loops, parallel blocks, breaks and continues. `graph_of`
draws it as people do: the edges that leave a block lead directly to what follows, so that one edge
may leave several loops and close another. `Interpreter` runs the tree itself, without a graph.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

Dangling = tuple[str, str | None, str | None]
"""An edge without a target: source, port, condition."""


@dataclass(slots=True)
class Step:
    """A node that counts its visits. `reads` are the nodes whose values its output contains."""

    id: str
    reads: list[str] = field(default_factory=list)
    fails_at: int | None = None
    """Every visit whose number is a multiple of this fails."""


@dataclass(slots=True)
class Choice:
    """Takes `then` if the number of its visit modulo `every` is `at`, else `otherwise`.

    With `is_port` it is drawn as a step and a conditional node with ports, else as a step whose
    edges have conditions.
    """

    step: Step
    every: int
    at: int
    then: list[Any]
    otherwise: list[Any]
    is_port: bool = False


@dataclass(slots=True)
class Loop:
    """A loop that ends at a visit of its test whose number is a multiple of `every`, or by a break.

    Without a `test`, `head` is the test, and the test comes first (`while`). Otherwise `test` comes
    last; it may be `head` itself.
    """

    head: Step
    every: int
    body: list[Any]
    test: Step | None


@dataclass(slots=True)
class Parallel:
    """Blocks that run at the same time.

    `first` is a step that runs as soon as one of them has ended (`join: any`).
    """

    branches: list[list[Any]]
    first: Step | None = None


@dataclass(slots=True)
class Guard:
    """A step that may fail, and the block that its port `error` leads to."""

    step: Step
    handler: list[Any]


@dataclass(slots=True)
class Jump:
    """A break or a continue of the loop `level` levels up; 0 is the innermost.

    `before` runs when the loops inside that one are left, on the way to its target.
    """

    is_break: bool
    level: int
    before: list[Any] = field(default_factory=list)

    @property
    def leaves(self) -> int:
        """The number of loops that it leaves."""
        return self.level + self.is_break


class Generator:
    """Draws a random program of at most about `size` nodes."""

    def __init__(self, random: Random, size: int, any_joins: float = 0.0) -> None:
        """Create a generator.

        Args:
            random: The source of randomness.
            size: The number of nodes, about.
            any_joins: The share of parallel blocks that are joined by their first branch. With any,
                steps read nothing, because what they see depends on the branch that ends first.
        """
        self.random, self.left, self.count, self.any_joins = random, size, 0, any_joins
        self.known: list[str] = []

    def program(self) -> list[Any]:
        return [self.step(), *self.block(0, 0)]

    def step(self) -> Step:
        self.count += 1
        self.left -= 1
        count = 0 if self.any_joins else min(len(self.known), self.random.randint(0, 2))
        step = Step(f"n{self.count}", self.random.sample(self.known, count))
        self.known.append(step.id)
        return step

    def block(self, loops: int, depth: int) -> list[Any]:
        statements: list[Any] = []
        for _ in range(self.random.randint(1, 3)):
            if self.left <= 0:
                break
            statement = self.statement(loops, depth)
            statements.append(statement)
            if isinstance(statement, Jump):
                break
        return statements or [self.step()]

    def statement(self, loops: int, depth: int) -> Any:
        kinds = ["step"]
        if depth < 5:
            kinds += ["choice", "choice", "loop", "loop", "parallel", "guarded"]
        if loops and depth:
            kinds += ["jump"]
        return getattr(self, f"_{self.random.choice(kinds)}")(loops, depth)

    def _step(self, loops: int, depth: int) -> Step:
        return self.step()

    def _jump(self, loops: int, depth: int) -> Any:
        """Draw a jump inside a choice, because a jump that is always taken ends the block."""
        step, every = self.step(), self.random.randint(2, 3)
        jump = Jump(self.random.random() < 0.5, self.random.randrange(loops))
        if self.random.random() < 0.4:
            known = list(self.known)
            jump.before = self.block(loops - jump.leaves, depth + 1)
            self.known = known if jump.leaves else self.known
        return Choice(step, every, self.random.randrange(every), [jump], [], self.random.random() < 0.3)

    def _choice(self, loops: int, depth: int) -> Choice:
        step, every = self.step(), self.random.randint(2, 3)
        then = self.block(loops, depth + 1)
        otherwise = self.block(loops, depth + 1) if self.random.random() < 0.6 else []
        return Choice(step, every, self.random.randrange(every), then, otherwise, self.random.random() < 0.3)

    def _loop(self, loops: int, depth: int) -> Loop:
        head, every = self.step(), self.random.randint(2, 3)
        if self.random.random() < 0.2:
            return Loop(head, every, [], head)  # a node with an edge to itself
        before = len(self.known)
        body = self.block(loops + 1, depth + 1)
        if not self.any_joins and self.random.random() < 0.5:
            inside = self.known[before:]
            head.reads += self.random.sample(inside, min(len(inside), 2))
        return Loop(head, every, body, self.step() if self.random.random() < 0.5 else None)

    def _parallel(self, loops: int, depth: int) -> Parallel:
        """Draw branches that read only nodes before the block, or their own nodes.

        The other branches run at the same time.
        """
        before, branches = list(self.known), []
        after = list(before)
        for _ in range(self.random.randint(2, 3)):
            self.known = list(before)
            branches.append([self.step(), *self.block(0, depth + 1)])
            after += self.known[len(before) :]
        if self.random.random() < self.any_joins:
            return Parallel(branches, self.step())
        self.known = after
        return Parallel(branches)

    def _guarded(self, loops: int, depth: int) -> Guard:
        step = self.step()
        step.fails_at = self.random.randint(1, 3)
        return Guard(step, self.block(loops, depth + 1))


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
        value = {"v": f"{{{{ fromjson('!') if {fails} else {counter}.output.v }}}}", "reads": []}
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


class TooLong(Exception):
    """The program has more visits than the limit."""


class _Jumping(Exception):
    def __init__(self, jump: Jump) -> None:
        self.jump = jump


class Interpreter:
    """Runs a program. `visits` counts the visits of each node, `outputs` has their values."""

    def __init__(self, limit: int = 400) -> None:
        self.limit = limit
        self.visits: dict[str, int] = {}
        self.values: dict[str, Any] = {}
        self.hidden: set[str] = set()
        self.outputs: dict[str, list[Any]] = {}
        self.clock = 0
        self.last: dict[str, int] = {}
        """The time of the latest visit of each node."""

    def run(self, program: list[Any]) -> None:
        self._block(program)

    def shown(self, node_id: str) -> Any:
        return None if node_id in self.hidden else self.values.get(node_id)

    def _visit(self, node_id: str, value: Any) -> None:
        self.clock += 1
        if self.clock > self.limit:
            raise TooLong
        self.visits[node_id] = self.visits.get(node_id, 0) + 1
        self.values[node_id] = value
        self.outputs.setdefault(node_id, []).append(value)
        self.hidden.discard(node_id)
        self.last[node_id] = self.clock

    def _block(self, statements: list[Any]) -> None:
        for at, statement in enumerate(statements):
            try:
                getattr(self, f"_{type(statement).__name__.lower()}")(statement)
            except _Jumping:
                self._skip(statements[at + 1 :])
                raise

    def _skip(self, statements: list[Any]) -> None:
        self.hidden.update(names_in(statements))

    def _step(self, step: Step) -> None:
        values = [self.shown(other) for other in step.reads]
        reads = [-1 if value is None else value["v"] for value in values]
        self._visit(step.id, {"v": self.visits.get(step.id, 0) + 1, "reads": reads})

    def _choice(self, choice: Choice) -> None:
        self._step(choice.step)
        holds = self.visits[choice.step.id] % choice.every == choice.at
        if choice.is_port:
            self._visit(f"{choice.step.id}p", {"result": holds})
        taken, other = (choice.then, choice.otherwise) if holds else (choice.otherwise, choice.then)
        self._skip(other)
        self._block(taken)

    def _loop(self, loop: Loop) -> None:
        entered = self.clock
        try:
            jump = self._rounds(loop)
        except _Jumping as jumping:
            self._end_loop(loop, entered, jumping.jump)
            jump = jumping.jump
            raise _Jumping(Jump(jump.is_break, jump.level - 1, jump.before)) from None
        self._end_loop(loop, entered, jump)
        if jump is not None:
            self._block(jump.before)

    def _end_loop(self, loop: Loop, entered: int, jump: Jump | None) -> None:
        """Show the latest visits of the loop's nodes, and skip what its other exits lead to."""
        parts = [loop.head, *loop.body, *([loop.test] if loop.test else [])]
        for name in names_in(parts):
            if self.last.get(name, 0) > entered:
                self.hidden.discard(name)
        for other, depth in jumps_in(loop.body):
            if depth - other.leaves == -1 and (jump is None or other.before is not jump.before):
                self._skip(other.before)

    def _rounds(self, loop: Loop) -> Jump | None:
        """Run the rounds of a loop.

        Returns:
            The break that ended the loop; None if its test did.

        Raises:
            _Jumping: A jump to another loop.
        """
        while True:
            try:
                if not self._round(loop):
                    return None
                continue
            except _Jumping as jumping:
                jump = jumping.jump
            if loop.test is not None and loop.test is not loop.head:
                self.hidden.add(loop.test.id)
            while jump is not None and not jump.level and not jump.is_break:
                jump = self._jump_in(jump.before)
            if jump is None:
                continue
            if jump.level:
                raise _Jumping(jump)
            return jump

    def _jump_in(self, statements: list[Any]) -> Jump | None:
        """Run statements. Return the jump with which they end."""
        try:
            self._block(statements)
        except _Jumping as jumping:
            return jumping.jump
        return None

    def _round(self, loop: Loop) -> bool:
        """Run one round. Return whether another one follows."""
        test = loop.test or loop.head
        self._step(loop.head)
        if loop.test is None and self.visits[test.id] % loop.every == 0:
            self._skip(loop.body)
            return False
        self._block(loop.body)
        if loop.test is None:
            return True
        if loop.test is not loop.head:
            self._step(loop.test)
        return self.visits[test.id] % loop.every != 0

    def _parallel(self, parallel: Parallel) -> None:
        for branch in parallel.branches:
            self._block(branch)
        if parallel.first is not None:
            self._step(parallel.first)

    def _guard(self, guarded: Guard) -> None:
        counter = f"{guarded.step.id}c"
        self._step(Step(counter))
        assert guarded.step.fails_at is not None
        if self.visits[counter] % guarded.step.fails_at == 0:
            self._visit(guarded.step.id, None)
            self._block(guarded.handler)
        else:
            self._visit(guarded.step.id, {"v": self.visits[counter], "reads": []})
            self._skip(guarded.handler)

    def _jump(self, jump: Jump) -> None:
        if jump.leaves:
            raise _Jumping(jump)
        self._block(jump.before)
        raise _Jumping(Jump(False, 0))


def names_in(statements: list[Any]) -> list[str]:
    """Return the ids of the nodes in these statements, without those behind an exit of them."""
    return [one.id for one, depth in _walk(statements, 0) if isinstance(one, Step) and depth >= 0]


def jumps_in(statements: list[Any]) -> list[tuple[Jump, int]]:
    """Return the jumps in these statements, each with the number of loops of them around it."""
    return [(one, depth) for one, depth in _walk(statements, 0) if isinstance(one, Jump)]


def all_statements(statements: list[Any]) -> list[Any]:
    """Return these statements and all inside of them."""
    return [one for one, _ in _walk(statements, 0)]


def _walk(statements: list[Any], depth: int) -> Iterator[tuple[Any, int]]:
    for one in statements:
        yield one, depth
        if isinstance(one, Choice):
            yield one.step, depth
            if one.is_port:
                yield Step(f"{one.step.id}p"), depth
            yield from _walk([*one.then, *one.otherwise], depth)
        elif isinstance(one, Loop):
            yield from _walk([one.head, *one.body, *([one.test] if one.test else [])], depth + 1)
        elif isinstance(one, Parallel):
            for branch in one.branches:
                yield from _walk(branch, depth)
            if one.first is not None:
                yield one.first, depth
        elif isinstance(one, Guard):
            yield from ((one.step, depth), (Step(f"{one.step.id}c"), depth))
            yield from _walk(one.handler, depth)
        elif isinstance(one, Jump):
            yield from _walk(one.before, depth - one.leaves)


def draw_program(seed: int, size: int = 16, any_joins: float = 0.0) -> tuple[list[Any], Interpreter]:
    """Draw a program that ends within the interpreter's limit.

    Returns:
        The program, and the interpreter that has run it.
    """
    random = Random(seed)
    while True:
        program = Generator(random, random.randint(3, size), any_joins).program()
        interpreter = Interpreter()
        try:
            interpreter.run(program)
        except TooLong:
            continue
        return program, interpreter
