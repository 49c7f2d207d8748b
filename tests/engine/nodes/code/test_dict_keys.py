"""Equal keys of different types: the sandbox gives the objects of CPython, in each form of a store."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_monty import AsyncMonty

from engine.errors import NodeFailure
from engine.nodes.code.corrections import corrected
from engine.sdk.node import Output
from tests.engine.node_runner import NodeHarness

IMPORTS = "import collections, datetime, decimal, functools, json\nfrom collections import Counter, defaultdict as dd\n"
FORMS = {
    "store": "d = {}\nd[I] = 'a'\nd[T] = 'b'",
    "store, bool first": "d = {}\nd[T] = 'a'\nd[I] = 'b'",
    "store of a float": "d = {}\nd[2] = 'a'\nd[2.0] = 'b'",
    "store of a constant": "d = {True: 'x'}\nd[1] = 'y'",
    "store of zero": "d = {}\nd[Z] = 'a'\nd[N] = 'b'\nd[-0.0] = 'c'",
    "store of a large number": "d = {}\nd[2 ** 70] = 'a'\nd[2.0 ** 70] = 'b'",
    "store of a decimal": "d = {}\nd[1] = 'a'\nd[decimal.Decimal('1.0')] = 'b'",
    "store of a time": (
        "d = {}\nv = datetime.timezone(datetime.timedelta(hours=1))\n"
        "d[datetime.datetime(2026, 1, 1, 0, tzinfo=datetime.timezone.utc)] = 'a'\n"
        "d[datetime.datetime(2026, 1, 1, 1, tzinfo=v)] = 'b'\nd = str(d)"
    ),
    "augmented store": "d = {}\nd[I] = 1\nd[T] += 1\nd[F] *= 3",
    "store in an attribute": (
        "class A:\n    def __init__(self):\n        self.d = {}\na = A()\na.d[I] = 1\na.d[T] = 2\na.d[T] += 1\nd = a.d"
    ),
    "store in a nested object": "d = {'x': {}}\nd['x'][I] = 1\nd['x'][T] = 2",
    "store in the result of a call": "d = {}\ndef f():\n    return d\nf()[I] = 1\nf()[T] = 2",
    "target of a loop": "d = {}\nfor d[I] in [1, 2]:\n    pass\nfor d[T] in [3]:\n    pass",
    "unpacked target": "d = {}\nd[I], x = 1, 2\n[d[T], x] = 3, 4",
    "tuple": "d = {}\nd[I, 'a'] = 1\nd[(T, 'a')] = 2\nd[(T), 'a'] = 3",
    "tuple in a tuple": "d = {}\nd[('a', Z), 1] = 1\nd[('a', N), F] = 2",
    "tuple of one": "d = {}\nd[I,] = 1\nd[T,] = 2",
    "named tuple": "P = collections.namedtuple('P', 'x y')\nd = {}\nd[(1, 2)] = 1\nd[P(True, 2)] = 3",
    "frozen set": "d = {}\nd[frozenset([I])] = 1\nd[frozenset([T])] = 2",
    "object": "d = {I: 'a', T: 'b', 'x': 1}",
    "object with spread": "d = {**{I: 'a'}, T: 'b'}",
    "object with two spreads": "a, b = {I: 'a', 'x': 1}, {T: 'b'}\nd = {**a, **b}",
    "object in an object": "d = {I: {I: 1, T: {T: 1, F: 2}}, T: {Z: 1, N: 2}}",
    "comprehension": "d = {k: 'x' for k in [I, T]}",
    "comprehension, int first": "d = {k: i for i, k in enumerate([0, 1, 2, False, True, 2.0, 'a'])}",
    "comprehension in a comprehension": "d = {k: {j: 1 for j in [Z, N]} for k in [I, T] if k}",
    "comprehension over several lines": "d = {\n    # a: comment\n    k: (\n        'x'\n    )\n    for k in [I, T]\n}",
    "dict of pairs": "d = dict([(I, 'a'), (T, 'b')])",
    "dict of zip": "d = dict(zip([I, T], 'ab'), z=1)",
    "dict of a generator": "d = dict((k, 1) for k in [I, T])",
    "dict of a dict": "d = dict({I: 'a'})\nd[T] = 'b'",
    "dict of texts": "d = dict(['ab', 'cd'])",
    "update with an object": "d = {I: 'a'}\nd.update({T: 'b'}, z=2)",
    "update with pairs": "d = {I: 'a'}\nd.update([(T, 'b'), (Z, 1), (N, 2)])",
    "update with pairs of its own": "d = {}\nd.update([(T, 'b'), (I, 1), (F, 2)])",
    "or": "d = {I: 'a'} | {T: 'b'}",
    "or, three": "a, b, c = {I: 'a'}, {T: 'b'}, {F: 'c'}\nd = a | b | c",
    "or in place": "d = {I: 'a'}\nd |= {T: 'b'}\nd |= [(F, 'c')]",
    "or in place, of an attribute": "class A:\n    pass\na = A()\na.d = {I: 'a'}\na.d |= {T: 'b'}\nd = a.d",
    "reduce": "d = functools.reduce(lambda a, b: a | b, [{I: 1}, {T: 2}])",
    "setdefault": "d = {I: 'a'}\nd.setdefault(T, 'b')\nd.setdefault(N, 'b')",
    "fromkeys": "d = dict.fromkeys([I, T, F])",
    "Counter": "d = Counter([I, T, F, 'a', 'a'])",
    "Counter of a text": "d = Counter('abca')",
    "Counter of a generator": "d = collections.Counter(k for k in [I, T])",
    "Counter of an object": "d = Counter({T: 2})\nd[I] += 1",
    "Counter.update": "d = Counter([I])\nd.update([T])\nd.update({F: 3})",
    "Counter.subtract": "d = Counter([I])\nd.subtract([T, T, F])",
    "Counter +": "d = Counter([I]) + Counter([T])",
    "Counter + in place": "d = Counter([I])\nd += Counter([T])\nn = 1\nn += 1",
    "Counter -": "d = Counter({1: 3}) - Counter({True: 1})",
    "Counter |": "d = Counter({1: 3})\nd |= Counter({True: 5})",
    "Counter.most_common": "d = Counter([I, T, 2, 2, 2]).most_common()",
    "defaultdict": "d = dd(int)\nd[I] += 1\nd[T] += 1",
    "defaultdict of lists": "d = collections.defaultdict(list)\nd[I].append(1)\nd[T].append(2)",
    "defaultdict of pairs": "d = dd(int, [(I, 1), (T, 2)])",
    "defaultdict, then a store": "d = dd(list)\nd[T].append(2)\nd[1] = 'a'\nd[0.0]\nd[N] = 'b'",
    "defaultdict, tuple, then a store": "d = dd(list)\nd[T, 2].append(2)\nd[1, 2] = 'a'",
    "setdefault, then a store": "d = {}\nd.setdefault(T, 2)\nd.setdefault(False, 2)\nd[1] = 'a'\nd[0] = 'b'",
    "object with one key, then a store": "d, e = {T: 2}, {(N): 3}\nd[1] = 'a'\ne[0] = 'b'\nd = [d, e]",
    "constants, then a store": "d = {'x': 1, 2.0: {False: 1}}\nd[2.0][0] = 2\nd[2] = {**{False: 1}, 0: 2}",
    "copy": "d = {I: 1}.copy()\nd[T] = 2",
    "pop, then store": "d = {I: 1}\nd.pop(T)\nd[T] = 3",
    "lambda": "d = {}\nf = lambda k: [d.update({k: 1})]\nf(I), f(T)",
    "not a number": "x = float('nan')\nd = {}\nd[x] = 1\nd[x] = 2\nd = [len(d), len({k: 1 for k in [x, x]})]",
    "own class as key": (
        "class A:\n    def __init__(self, v):\n        self.v = v\n    def __eq__(self, other):\n"
        "        return self.v == other.v\n"
        "    def __hash__(self):\n        return 7\na, b = A(1), A(2)\nd = {}\nd[a] = 1\nd[b] = 2\n"
        "d[A(1)] = 3\nd = list(d.values())"
    ),
    "names of built-in functions": (
        "def type(x):\n    return 'mine'\nlist, tuple, isinstance = 1, 2, 3\nd = {k: type(k) for k in [I, T]}"
    ),
    "lists": "d = [[0, 0], [0, 0]]\nd[I][T] = 5\nd[0][0] += 1\nd[T] = d[T] + [1]\nd[0:1] = [7]",
    "sets": "d = {I}\nd.update([T])\nd |= {N, Z}\nd = [len(d), sorted(d | {2})]",
    "numbers": "d = 5 | 2\nd |= 8\nd = [d, True | False]",
    "own class with update": (
        "class A:\n    def update(self, x):\n        return x\n    def __or__(self, x):\n        return x\n"
        "d = [A().update([1]), A() | 2]"
    ),
    "type hints": (
        "def f(x: int | None = None, *, y: dict[str, int] | None = None) -> int | None:\n"
        "    z: int | None = x\n    return z\nd = f(3)"
    ),
    "other letters": "ä = {}\nä['é'], ä[I], ä[(T)] = 'ö', 'ü', 'ß'\nd = ä",
}
"""Code that makes `d`. It is run in both Pythons, as a module and as a function."""
NAMES = "I, T, F, Z, N = 1, True, 1.0, 0, False\n"


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[AsyncMonty]:
    async with AsyncMonty(min_processes=1, max_processes=1) as pool:
        yield pool


async def run_code(pool: AsyncMonty, code: str, **mapping: Any) -> Any:
    harness = NodeHarness({"input": {}}, {"sandbox": pool, "sandbox_memory_mb": 64})
    outcome = await harness.run("code", {"code": code, "input_mapping": mapping})
    assert isinstance(outcome, Output)
    return outcome.value


def of_cpython(code: str) -> Any:
    names: dict[str, Any] = {}
    exec(code, names)
    return names["process"]()


def indented(code: str) -> str:
    return "".join(f"    {line}\n" for line in code.splitlines())


@pytest.mark.parametrize("form", FORMS)
async def test_an_equal_key_keeps_its_first_form(sandbox: AsyncMonty, form: str) -> None:
    in_module = f"{IMPORTS}{NAMES}{FORMS[form]}\ndef process():\n    return repr(d)"
    assert (await run_code(sandbox, in_module)).replace("class 'collections.", "class '") == of_cpython(
        in_module
    ).replace("class 'collections.", "class '")
    in_function = f"{IMPORTS}def process():\n{indented(NAMES + FORMS[form])}    return repr(d)"
    assert await run_code(sandbox, in_function) == of_cpython(in_function)


KEYS = st.sampled_from(
    ["0", "1", "2", "True", "False", "0.0", "1.0", "2.0", "-0.0", "'a'", "None", "(1, 'b')", "(True, 'b')"]
)
VALUES = st.integers(1, 9).map(str)
PAIRS = st.lists(st.tuples(KEYS, VALUES), max_size=4).map(
    lambda pairs: "[" + ", ".join(f"({k}, {v})" for k, v in pairs) + "]"
)
STEPS = st.one_of(
    st.builds("d[k({})] = {}".format, KEYS, VALUES),
    st.builds("d[k({})] += {}".format, KEYS, VALUES),
    st.builds("d.update({})".format, PAIRS),
    st.builds("d |= dict({})".format, PAIRS),
    st.builds("d = Counter(d | {{k: v for k, v in {}}})".format, PAIRS),
    st.builds("d = Counter({{**d, k({}): {}, k({}): 1}})".format, KEYS, VALUES, KEYS),
    st.builds("d.pop(k({}), None)".format, KEYS),
    st.builds("d.setdefault(k({}), {})".format, KEYS, VALUES),
    st.builds("d += Counter([k({}), k({})])".format, KEYS, KEYS),
    st.builds("d = Counter(dict.fromkeys([*d, k({})], {}))".format, KEYS, VALUES),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
@given(st.lists(st.lists(STEPS, min_size=1, max_size=8), min_size=20, max_size=20))
async def test_any_sequence_of_stores_gives_the_object_of_cpython(
    sandbox: AsyncMonty, programs: list[list[str]]
) -> None:
    bodies = [
        "def run():\n    d = Counter()\n" + indented("\n".join(steps)) + "    return repr(list(d.items()))"
        for steps in programs
    ]
    calls = "\n".join(f"{body}\nresults.append(run())" for body in bodies)
    code = f"{IMPORTS}def k(key):\n    return key\nresults = []\n{calls}\ndef process():\n    return results"
    assert await run_code(sandbox, code) == of_cpython(code)


@pytest.mark.parametrize(
    ("code", "line", "column", "words"),
    [
        ("    d = {}\n    d[x], é = 1, 2; return d['no']", 3, 28, "KeyError: no"),
        ("    d = {}\n    d[x] += 1", 3, 5, "KeyError: 1"),
        ("    d = {}\n    d[[x]] = 1", 3, 5, "unhashable type: 'list'"),
        ("    d = {}\n    d[[x], 2] = 1", 3, 7, "unhashable type"),
        ("    d = {'x': {}}\n    d['y'][x] = 1", 3, 5, "KeyError: y"),
        ("    return {k: 1 for k in [[x]]}", 2, None, "unhashable type: 'list'"),
        ("    return dict([(1, 2, 3)])", 2, None, "Error"),
        ("    d = {}\n    d.update(3)", 3, None, "TypeError"),
        ("    é = {}; é[x], é[x], y = 1, 2", 2, None, "ValueError"),
    ],
)
async def test_an_error_in_a_store_has_the_position_in_the_code(
    sandbox: AsyncMonty, code: str, line: int, column: int | None, words: str
) -> None:
    with pytest.raises(NodeFailure, match=words) as failed:
        await run_code(sandbox, f"def process(x):\n{code}", x=1)
    assert failed.value.code == "CODE" and isinstance(failed.value.details, dict)
    assert failed.value.message.startswith(f"line {line}: ")
    assert "treadle" not in failed.value.message
    assert failed.value.details["line"] == line
    assert column is None or failed.value.details["column"] == column


@pytest.mark.parametrize(
    "code",
    [
        "def process(rows):\n    return len(rows)",
        "def process(rows):\n    d = {'a': 1, 'b': 2}\n    d['c'] = 3\n    d[str(rows)] = 4\n    d.update({'x': 1}, y=2)",
        "def process(a: dict[str, int] | None):\n    return [{f'{x}': 1 for x in 'ab'}, {**a, 'x': 1}]",
        "import json\ndef process(a):\n    '''d[k] = 1 | 2'''\n    return json.loads(a)['x'][0:2]",
    ],
)
def test_code_whose_keys_are_texts_is_not_changed(code: str) -> None:
    assert corrected(code) == (code, None, {})


async def test_the_result_can_be_text_of_the_keys(sandbox: AsyncMonty) -> None:
    code = "import json\ndef process(rows):\n    d = {}\n    for r in rows:\n        d[r] = d.get(r, 0) + 1\n"
    code += "    return json.dumps(d)"
    assert json.loads(await run_code(sandbox, code, rows=[1, True, 1.0, "1"])) == {"1": 1}
