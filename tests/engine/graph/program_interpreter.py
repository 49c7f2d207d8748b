"""A plain interpreter of structured programs. It says how the graph of a program must run."""

from typing import Any

from tests.engine.graph.programs import Choice, Guard, Jump, Loop, Parallel, Step, jumps_in, names_in


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
