"""Validation of arguments that several resolvers take: names, run options, inputs and timeouts."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from engine.problems import FieldProblem
from engine.spec.parser import parse
from engine.spec.raw import concurrency_of
from engine.types import JSON
from engine.values.json_schema import complete_inputs
from persistence.problems import Invalid, invalid
from persistence.runs.run import RunOptions
from persistence.workflows.versions import Version

MAX_WAIT_MS = 600_000
MAX_PRIORITY = 100
MAX_TIMEOUT_S = 366 * 86_400
MAX_NAME = 200
MAX_DESCRIPTION = 10_000

MAX_TAGS, MAX_TAG = 20, 64
_DIRECTIONS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_INVISIBLE = "\u00ad\u200b\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
HIDDEN = re.compile(f"[\x00-\x1f\x7f-\x9f\u2028\u2029{_DIRECTIONS}{_INVISIBLE}]")
"""Characters that no name has: they would end a line, control a terminal, change the direction of the text
that follows (CVE-2021-42574), or make two names look the same. Joiners (U+200C, U+200D) belong to words
and emoji."""
TAG = re.compile(rf"(?!\s).{{1,{MAX_TAG}}}(?<!\s)", re.DOTALL)


def checked_name(field: str, name: str) -> str:
    """Return the name without surrounding white space.

    Raises Invalid if its length is out of range, or if it has a character of HIDDEN.
    """
    stripped = name.strip()
    if not 1 <= len(stripped) <= MAX_NAME:
        raise invalid(field, "LENGTH", f"must have 1 to {MAX_NAME} characters, has {len(stripped)}")
    check_visible(field, stripped)
    return stripped


def check_visible(field: str, text: str) -> None:
    """Raise Invalid if a text of one line has a character of HIDDEN."""
    if (message := hidden_character(text)) is not None:
        raise invalid(field, "FORMAT", message)


def hidden_character(text: str) -> str | None:
    """Say which character of HIDDEN a text has first; None if it has none."""
    found = HIDDEN.search(text)
    if found is None:
        return None
    named = f"U+{ord(found[0]):04X} {unicodedata.name(found[0], '')}".strip()
    return f"must have visible characters only: character {found.start() + 1} is {named}; remove it"


def visible(text: str) -> str:
    """Return a stored name without the characters of HIDDEN, which an earlier release accepted."""
    return HIDDEN.sub("", text)


def checked_description(field: str, text: str) -> str:
    """Return the text unchanged. Raises Invalid if it is too long."""
    if len(text) > MAX_DESCRIPTION:
        raise invalid(field, "LENGTH", f"must have at most {MAX_DESCRIPTION} characters, has {len(text)}")
    return text


def check_options(options: RunOptions, spec: JSON) -> None:
    """Check timeout, priority and breakpoints against their ranges and the nodes of the spec.

    Raises Invalid.
    """
    if options.timeout_s is not None and not 0 < options.timeout_s <= MAX_TIMEOUT_S:
        message = f"must be more than 0 and at most {MAX_TIMEOUT_S:,}"
        raise invalid("input.options.timeoutS", "OUT_OF_RANGE", message)
    if abs(options.priority) > MAX_PRIORITY:
        raise invalid("input.options.priority", "OUT_OF_RANGE", f"must be from -{MAX_PRIORITY} to {MAX_PRIORITY}")
    if problems := [*tag_problems("input.options.tags", options.tags or ())]:
        raise Invalid(problems)
    if options.thread is not None:
        _check_thread(options.thread.key, spec)
    if options.breakpoints:
        check_nodes("input.options.breakpoints", options.breakpoints, {node.id for node in parse(spec).nodes})


def _check_thread(key: str, spec: JSON) -> None:
    """Raise Invalid if a run cannot belong to the thread with this key."""
    field = "input.options.thread"
    if checked_name(f"{field}.key", key) != key:
        raise invalid(f"{field}.key", "FORMAT", "must have no white space around it")
    if concurrency_of(spec) is not None:
        message = "the spec has `concurrency`: a run has one limit, that of its workflow or that of its thread"
        raise invalid(field, "EXCLUSIVE", message)


def tag_problems(field: str, tags: Sequence[str]) -> Iterator[FieldProblem]:
    """Yield why a run cannot have these tags."""
    if len(tags) > MAX_TAGS:
        yield FieldProblem(field, "LENGTH", f"must have at most {MAX_TAGS} tags, has {len(tags)}")
        return
    for place, tag in enumerate(tags):
        of_tag = f"{field}[{place}]"
        if not TAG.fullmatch(tag):
            yield FieldProblem(
                of_tag, "FORMAT", f"must have 1 to {MAX_TAG} characters, without white space around them"
            )
        elif (message := hidden_character(tag)) is not None:
            yield FieldProblem(of_tag, "FORMAT", message)


def check_nodes(field: str, node_ids: Iterable[str], known: set[str]) -> None:
    """Raise Invalid if a node id is not in `known`."""
    if unknown := sorted(set(node_ids) - known):
        raise invalid(field, "UNKNOWN_NODE", f"the spec has no node {', '.join(map(repr, unknown[:5]))}")


def complete_run_inputs(inputs: JSON, version: Version) -> JSON:
    """Return the inputs with the defaults of the JSON Schema of the version.

    Raises Invalid if they do not match the schema.
    """
    completed, problems = complete_inputs(inputs, version.spec.get("inputs"))
    if problems:
        raise Invalid(problems)
    return completed


def check_wait(timeout_ms: int) -> None:
    """Raise Invalid if a mutation should wait for a negative or too long time, in milliseconds."""
    if not 0 <= timeout_ms <= MAX_WAIT_MS:
        raise invalid("input.timeoutMs", "OUT_OF_RANGE", f"must be from 0 to {MAX_WAIT_MS}")
