"""The statements of structured programs: steps, choices, loops, parallel blocks, breaks and continues.

A program is a tree of statements. `program_graph` draws it as a spec, `program_interpreter` runs it
without a graph, and `program_generator` makes random ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


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
