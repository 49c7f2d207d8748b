"""The table of `make hostile`: what an attack tried, what got through, and how long others waited."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

LIMIT_S = 0.25
"""The longest time that a probe may wait; twice its own time for the code of another project."""
CODE_FACTOR = 2
BLOCK_S = 0.1
"""The longest time for which an event loop may be blocked, in seconds of CPU time of its process."""
PROBES = {"health": "/health", "typename": "__typename", "run": "other run", "code": "other code"}
HEADINGS = ("attack", *PROBES.values(), "server", "worker", "tried", "passed", "refused", "result")
RIGHT_ALIGNED = range(1, 9)


@dataclass(frozen=True, slots=True)
class AttackResult:
    """What an attack did.

    Attributes:
        refused: Refusals by error code, HTTP status, close code or reason.
        tried: How often it tried something that must never succeed; None for an attack on time.
        passed: What succeeded although it must not.
    """

    refused: Counter[str] = field(default_factory=Counter)
    tried: int | None = None
    passed: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class ProbeWaits:
    """The seconds of all operations of each probe, and the operations that failed.

    Attributes:
        core_seconds: Of each operation, the seconds in which the server, the worker or the probe was ready to
            run, and other processes of the machine had the cores.
    """

    seconds: Mapping[str, Sequence[float]]
    failures: Sequence[str] = ()
    core_seconds: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def longest(self, probe: str) -> float:
        return max(self.seconds[probe])

    def longest_with_core(self, probe: str) -> float:
        """Return the longest operation, without the time in which its processes waited for a core."""
        core = self.core_seconds.get(probe) or [0.0] * len(self.seconds[probe])
        return max(wait_s - core_s for wait_s, core_s in zip(self.seconds[probe], core, strict=True))


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch in which an event loop could not run, in seconds of CPU time, and the places in the code.

    Attributes:
        loop_s: CPU time of the thread of the event loop.
        process_s: CPU time of the whole process. Other threads may run beside the event loop.
    """

    loop_s: float
    process_s: float
    places: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Blocks:
    """The stretches of each process: `server` and `worker`."""

    of: Mapping[str, Sequence[Block]]

    def longest(self, process: str) -> float:
        return max((block.loop_s for block in self.of[process]), default=0.0)

    def lines(self) -> list[str]:
        """Return where an event loop was blocked for too long."""
        return [
            f"    {process} blocked for {block.loop_s * 1000:.0f} ms at {' <- '.join(block.places)}"
            for process, blocks in self.of.items()
            for block in sorted(blocks, key=lambda block: -block.loop_s)[:3]
            if block.loop_s > BLOCK_S
        ]


@dataclass(frozen=True, slots=True)
class AttackRow:
    """One attack: its result, and what others waited.

    Attributes:
        blocks: What blocked the event loops.
        own_code_s: How long the code of the other project takes at most when nobody attacks, in seconds.
    """

    name: str
    result: AttackResult
    waits: ProbeWaits
    blocks: Blocks
    own_code_s: float

    def limit_s(self, probe: str) -> float:
        return CODE_FACTOR * self.own_code_s if probe == "code" else LIMIT_S

    @property
    def problems(self) -> list[str]:
        """Why the row misses its bounds; an empty list if it meets them."""
        late = [name for name in PROBES if self.waits.longest_with_core(name) > self.limit_s(name)]
        blocked = [name for name in self.blocks.of if self.blocks.longest(name) > BLOCK_S]
        return [
            *(f"the event loop of the {name} was blocked for more than {BLOCK_S * 1000:.0f} ms" for name in blocked),
            *(f"{PROBES[name]} waited for more than {self.limit_s(name) * 1000:.0f} ms" for name in late),
            *self.waits.failures,
            *self.result.passed,
        ]

    @property
    def is_busy(self) -> bool:
        """Whether a probe waited too long, but only because its processes had no core."""
        return not self.problems and any(self.waits.longest(name) > self.limit_s(name) for name in PROBES)

    def _wait(self, probe: str) -> str:
        """Return the longest wait, what of it was no wait for a core, and the median, in milliseconds."""
        waits = self.waits.longest(probe), self.waits.longest_with_core(probe), median(self.waits.seconds[probe])
        return " / ".join(f"{seconds * 1000:.0f}" for seconds in waits)

    def cells(self) -> list[str]:
        tried = self.result.tried
        return [
            self.name,
            *(self._wait(name) for name in PROBES),
            *(f"{self.blocks.longest(name) * 1000:.0f}" for name in ("server", "worker")),
            "" if tried is None else str(tried),
            "" if tried is None else str(len(self.result.passed)),
            ", ".join(f"{count} × {name}" for name, count in sorted(self.result.refused.items())),
            "missed" if self.problems else "busy" if self.is_busy else "met",
        ]


def as_text(cells: Sequence[str]) -> str:
    """Return a row for a terminal."""
    widths = (32, 16, 16, 18, 18, 6, 6, 6, 6)
    aligned = [
        cell.rjust(width) if number in RIGHT_ALIGNED else cell.ljust(width)
        for number, (cell, width) in enumerate(zip(cells, widths, strict=False))
    ]
    return "  ".join([*aligned, cells[-1].ljust(6), cells[-2]])


def as_markdown(rows: Iterable[Sequence[str]]) -> str:
    """Return the table for docs/security.md."""
    rule = ["---:" if number in RIGHT_ALIGNED else "---" for number in range(len(HEADINGS))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (HEADINGS, rule, *rows))


def codes(value: object) -> Counter[str]:
    """Count the error codes in responses."""
    return Counter(_codes(value))


def _codes(value: object) -> list[str]:
    if isinstance(value, Mapping):
        code = value.get("code")
        own = [code] if isinstance(code, str) and code.isupper() else []  # The code of a node is no error code.
        return own + [code for inner in value.values() for code in _codes(inner)]
    return [code for inner in value for code in _codes(inner)] if isinstance(value, list | tuple) else []
