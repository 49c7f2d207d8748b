"""Random structured programs."""

from random import Random
from typing import Any

from tests.engine.graph.program_interpreter import Interpreter, TooLong
from tests.engine.graph.programs import Choice, Guard, Jump, Loop, Parallel, Step


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
