"""Functions of `re` in the sandbox against CPython: random patterns give equal results or fail."""

import re
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest
from pydantic_monty import AsyncMonty

from engine.errors import NodeFailure
from tests.engine.nodes.code.test_python import run_code, warnings

ATOMS = [
    "a",
    "b",
    "x",
    ".",
    r"\d",
    r"\w",
    r"\s",
    r"\W",
    "[a-c]",
    "[^a$]",
    r"\b",
    "^",
    "$",
    "(a)",
    "(?:ab)",
    "(b|c)",
    r"\$",
]
QUANTIFIERS = ["", "", "", "", "+", "*", "?", "{2}", "{1,2}", "+?", "*?", "??"]
SUBJECTS = [
    "",
    "a",
    "aab",
    "abc\n",
    "banana",
    "xax",
    "2024-01-31\n",
    "foo, bar,,baz",
    "line1\nline2\n",
    "é ü ß",
    "  x  ",
    "5 $",
]
REPLACEMENTS = ["-", "", "X", r"<\g<0>>", r"\n", r"[\t\\]", r"\.", "$1", r"\1", r"\g<1>-", r"\q", r"\g<no>"]
FLAGS = ["0", "0", "0", "re.I", "re.M", "re.S | re.M"]
CALLS = [
    "re.sub({p}, {r}, {s}, flags={f})",
    "re.sub({p}, {r}, {s}, 2, {f})",
    "re.compile({p}, {f}).sub({r}, {s}, 1)",
    "re.findall({p}, {s}, {f})",
    "re.compile({p}, {f}).findall({s})",
    "re.findall(re.compile({p}, {f}), {s})",
    "re.split({p}, {s}, flags={f})",
    "re.compile({p}, {f}).split({s}, 1)",
    "[m.span() for m in re.finditer({p}, {s}, {f})]",
    "[m.span() for m in re.compile({p}, {f}).finditer({s})]",
    "[m.span() for m in [re.search({p}, {s}, {f})] if m]",
    "[m.groups() for m in [re.match({p}, {s}, {f})] if m]",
    "[m.span() for m in [re.compile({p}, {f}).search({s})] if m]",
    "bool(re.fullmatch({p}, {s}, {f})), bool(re.compile({p}, {f}).fullmatch({s}))",
]


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[AsyncMonty]:
    async with AsyncMonty(min_processes=1, max_processes=1) as pool:
        yield pool


def draw_call(random: Random) -> str:
    parts = [random.choice(ATOMS) + random.choice(QUANTIFIERS) for _ in range(random.randrange(1, 4))]
    pattern = "".join(parts) + random.choice(["", "", "", "|" + random.choice(ATOMS)])
    values = {"p": pattern, "s": random.choice(SUBJECTS), "r": random.choice(REPLACEMENTS)}
    texts = {name: repr(value) for name, value in values.items()}
    return random.choice(CALLS).format(f=random.choice(FLAGS), **texts)


def by_cpython(call: str) -> str | None:
    """Return the result, or None if CPython refuses the pattern or the replacement."""
    try:
        return repr(eval(call, {"re": re}))
    except (re.error, IndexError):
        return None


async def test_a_random_call_gives_the_result_of_cpython_or_fails(sandbox: AsyncMonty) -> None:
    random = Random(17)
    pairs = [(call, by_cpython(call)) for call in (draw_call(random) for _ in range(700))]
    expected = {call: result for call, result in pairs if result is not None}
    tries = "".join(
        f"    try:\n        results.append(repr(({call})))\n    except Exception:\n        results.append(None)\n"
        for call in expected
    )
    results = await run_code(sandbox, f"import re\ndef process():\n    results = []\n{tries}    return results")
    found = dict(zip(expected, results, strict=True))
    assert {call: found[call] for call, result in expected.items() if found[call] not in (None, result)} == {}
    assert sum(result is not None for result in results) > 0.7 * len(results) > 250


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("import re as r\ndef process():\n    return r.sub(r'\\s', r'\\n', 'a b')", "a\nb"),
        ("import re\nimport re as r\ndef process():\n    return [re.sub('a', 'b', 'a'), r.split('x', 'axb')]", ["b", ["a", "b"]]),
        ("import re\np = re.compile('^a$', re.I)\ndef process():\n    return [bool(p.match('A\\n')), p.pattern, repr(p)]",
         [True, "^a$", "re.compile('^a$', re.IGNORECASE)"]),
        ("import re\np = re.compile(re.compile('a'))\ndef process():\n    return isinstance(p, re.Pattern)", True),
        ("import re\nd = {re.compile('a'): 1}\ndef process():\n    return d[re.compile('a')]", 1),
        ("import re\ndef process():\n    return re.sub('a$', 'b', 'a\\n')", "b\n"),
        ("import re\ndef process():\n    return re.findall('[$a]$|^[^$]', 'xa\\n$', re.M)", ["x", "a", "$"]),
        ("import re\ndef process():\n    return re.sub('(?m)b$', '-', 'ab\\nb\\n')", "a-\n-\n"),
        ("import re\ndef process():\n    return re.sub('(?<=[a-z])(?=[A-Z])|$', '_', 'aBc')", "a_Bc_"),
    ],
)  # fmt: skip
async def test_calls_of_other_forms(sandbox: AsyncMonty, code: str, result: Any) -> None:
    assert warnings(code) == []
    assert await run_code(sandbox, code) == result


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("re.sub('a', r'\\1', 'a')", "the pattern has no group '1'"),
        ("re.sub('(?P<n>a)', r'\\g<m>', 'a')", "the pattern has no group 'm'"),
        ("re.sub('a', r'\\d', 'a')", "bad escape \\d in the replacement"),
        ("re.compile('a??').findall('a')", "also matches the empty text"),
        ("re.compile('a*').sub('-', 'ab')", "also matches the empty text"),
        ("re.findall(r'\\b|b', 'ab b')", "also matches the empty text"),
        ("re.compile('a').search('ba', 1)", "takes exactly one argument"),
    ],
)
async def test_a_call_that_cannot_give_the_result_fails_with_its_line(
    sandbox: AsyncMonty, call: str, message: str
) -> None:
    with pytest.raises(NodeFailure) as failed:
        await run_code(sandbox, f"import re\n\ndef process():\n    return {call}\n")
    assert (failed.value.code, message in failed.value.message) == ("CODE", True), failed.value.message
    assert failed.value.message.startswith("line 4: ")
