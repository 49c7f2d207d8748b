"""The sandbox's Python against CPython: equal results, a correction, a failure, or a warning."""

import builtins
import datetime
import importlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_monty import AsyncMonty, AsyncMontySession, MontyError

from engine.errors import NodeFailure
from engine.nodes.code.corrections import corrected
from engine.nodes.code.limitations import MISSING_BUILTINS, MISSING_MEMBERS, MISSING_METHODS, MODULES
from engine.nodes.code.node import CodeConfig, CodeNode
from engine.sdk.node import Output
from engine.states import Severity
from engine.validation.validator import validate
from tests.engine.node_runner import TYPES, NodeHarness
from tests.paths import ROOT

CASES = ROOT / "tests" / "engine" / "nodes" / "code" / "cases"
SAME = """
round(2.5)
round(-0.5), round(0.5), round(1.5)
round(12345, -2), round(15, -1), round(True, 1), round(7)
round(2.675, ndigits=2)
round(1e22), round(1e22, 2), round(1e300, 1), round(-1e-300, 5), round(5e-324, 323)
round(1.0, 400), round(1.0, -400), round(25.0, -1), round(1234.5, -2)
round(2.7, None)
'%.2f' % 2.675, f'{0.415:.2f}', '{:.1f}'.format(0.25)
-7 // 2, -7 % 3, 7 % -3, divmod(-7, 2), -7.5 // 2, -7.5 % 2
2 ** -1, 2 ** 100 % 1000, pow(2, 3, 5)
0.1 + 0.2, 1e16, 1e-7, 1 / 3, 100.0, float('1e400')
str(1e16), str(0.1), repr(1.0), str(1e22), str(123456789.123)
sum([0.1] * 10), math.fsum([0.1] * 10)
'a,b,,c'.split(','), ' a b '.split(), 'abc'.center(7, '*'), 'x'.zfill(3), 'ß'.upper(), 'a-b'.title()
'abc'.partition('b'), 'a\\nb\\r\\nc'.splitlines(), 'abc'.rsplit('b', 1), 'Straße'.casefold()
sorted([3, 1, 2], reverse=True), sorted('bA', key=lambda c: c.lower()), sorted([(1, 'b'), (1, 'a')])
[1, 2, 3][::-1], [1, 2, 3][-2:], 'hello'[1:-1:2]
{**{'a': 1}, 'b': 2}, {'a': 1} | {'b': 2}, dict.fromkeys(['a'], 1)
max([1, 5, 2]), min('b', 'a'), max([], default=0), max(['a', 'bbb'], key=len)
list(zip([1, 2], 'ab')), list(enumerate('ab', 1)), list(map(lambda a: a + 1, [1])), list(filter(None, [0, 1]))
any([0, 1]), all([]), abs(-2), hex(255), bin(5), oct(8), chr(65), ord('a')
int('ff', 16), int('-7'), float('1.5'), bool(''), str(None), int(2.9), int(-2.9)
isinstance(1, (int, str)), type(1).__name__, hasattr('a', 'upper') or True
json.dumps({'a': [1, 2.0, None, True], 'é': 'ü'}), json.dumps({'a': 1}, indent=2, sort_keys=True)
json.dumps({None: 2, 1.5: 4, 7: 1}), json.dumps('é', ensure_ascii=False), json.loads('{"a": [1, 2.5, null]}')
re.sub('a', 'b', 'banana'), re.sub(r'(\\w+) (\\w+)', r'\\2 \\1', 'a b'), re.sub('x*', '', 'axb'), re.sub('^', '> ', 'a')
re.findall('[a-z]+', 'ab 1 c'), re.findall('(a)(b)', 'abab'), re.split(', *', 'a, b,c'), re.sub('(?=[A-Z])', '_', 'aBc')
[m.start() for m in re.finditer('a', 'banana')], re.match('a(?P<n>b)', 'ab').group('n'), bool(re.fullmatch('a*', 'aaa'))
math.floor(-1.5), math.ceil(1.2), math.sqrt(2), math.pi, math.isclose(0.1 + 0.2, 0.3), math.gcd(12, 18)
datetime.datetime(2026, 1, 31, 9).isoformat(), (datetime.date(2026, 3, 1) - datetime.date(2026, 2, 1)).days
str(decimal.Decimal('2.675').quantize(decimal.Decimal('0.01'))), str(decimal.Decimal('0.1') + decimal.Decimal('0.2'))
collections.Counter('abca').most_common(1), list(itertools.chain([1], [2])), functools.reduce(lambda a, b: a * b, [2, 3])
base64.b64encode(b'ab').decode(), hashlib.sha256(b'a').hexdigest()[:8]
[x * y for x in range(3) for y in range(2) if x != y], {k: v for k, v in [('a', 1)]}, sum(x for x in range(5))
(lambda a, b=2: a + b)(1), 1 < 2 < 3, 1 if [] else 2, not '' and 'x' or 'y'
'%s %d %5.1f|%-4s|' % ('a', 1, 2.25, 'x'), '{0} {x!r:>5}'.format(1, x='a'), f'{1234567.891:,.2f} {0.5:%} {255:#x}'
"""
"""Expressions, one a line, whose results are the same."""
IMPORTS = "import base64, collections, datetime, decimal, functools, hashlib, itertools, json, math, re\n"


@pytest.fixture(scope="module")
async def sandbox() -> AsyncIterator[AsyncMonty]:
    async with AsyncMonty(min_processes=1, max_processes=1) as pool:
        yield pool


async def run_code(pool: AsyncMonty, code: str, **mapping: Any) -> Any:
    harness = NodeHarness({"input": {}}, {"sandbox": pool, "sandbox_memory_mb": 64})
    outcome = await CodeNode().execute(CodeConfig(code=code, input_mapping=mapping), harness.context)
    assert isinstance(outcome, Output)
    return outcome.value


def warnings(code: str) -> list[str]:
    report = validate({"nodes": [{"id": "c", "type": "code", "config": {"code": code}}]}, TYPES)
    assert report.errors == []
    assert {(one.code, one.field, one.severity) for one in report.warnings} <= {
        ("UNSUPPORTED", "nodes[0].config.code", Severity.WARNING)
    }
    assert all(one.line is not None for one in report.warnings)
    return [one.message for one in report.warnings]


@pytest.mark.parametrize("expression", SAME.strip().splitlines())
async def test_a_result_is_that_of_cpython(sandbox: AsyncMonty, expression: str) -> None:
    names: dict[str, Any] = {}
    exec(IMPORTS, names)
    code = f"{IMPORTS}def process():\n    return repr([{expression}])"
    assert await run_code(sandbox, code) == repr([*eval(f"[{expression}]", names)])


NUMBERS = st.one_of(
    st.floats(-1e6, 1e6),
    st.integers(-(10**9), 10**9).map(lambda n: n / 1000),
    st.floats(allow_nan=False, allow_infinity=False),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.tuples(NUMBERS, st.integers(-4, 12)), min_size=200, max_size=200))
async def test_round_gives_the_results_of_cpython(sandbox: AsyncMonty, pairs: list[tuple[float, int]]) -> None:
    code = "def process(pairs):\n    return [round(number, digits) for number, digits in pairs]"
    rounded = await run_code(sandbox, code, pairs=[list(pair) for pair in pairs])
    assert list(map(repr, rounded)) == [repr(round(number, digits)) for number, digits in pairs]


async def test_the_case_of_amounts_gives_its_expected_output(sandbox: AsyncMonty) -> None:
    case = json.loads((CASES / "code_round_differs_from_python.json").read_text())
    [node] = case["spec"]["nodes"]
    assert await run_code(sandbox, node["config"]["code"], **case["inputs"]) == case["expected"]["c"]


MISSING: dict[str, str] = json.loads((CASES / "code_common_python_missing.json").read_text())["spec"]["code"]


@pytest.mark.parametrize("name", MISSING)
async def test_the_case_of_common_python_runs_or_has_a_warning(sandbox: AsyncMonty, name: str) -> None:
    found = warnings(MISSING[name])
    assert found != []
    with pytest.raises(NodeFailure) as failed:
        await run_code(sandbox, MISSING[name])
    assert failed.value.code == "CODE"


async def test_an_error_in_a_corrected_function_has_the_line_of_the_author(sandbox: AsyncMonty) -> None:
    for line in ("round('a')", "re.sub('x*', '-', 'axb')"):
        with pytest.raises(NodeFailure) as failed:
            await run_code(sandbox, f"import re\n\ndef process():\n    x = 'é'; return {line}\n")
        assert failed.value.code == "CODE"
        assert isinstance(failed.value.details, dict)
        assert (failed.value.details["line"], failed.value.message.startswith("line 4: ")) == (4, True)


@pytest.mark.parametrize(
    "call",
    ["re.sub('x*', '-', 'abxd')", "re.findall('x*', 'axb')", "re.split('x*', 'axbc')", "list(re.finditer('x*', 'x'))"],
)
async def test_a_pattern_that_also_matches_the_empty_text_fails_clearly(sandbox: AsyncMonty, call: str) -> None:
    with pytest.raises(NodeFailure, match="gives another result here than in Python") as failed:
        await run_code(sandbox, f"import re\ndef process():\n    return {call}")
    assert failed.value.code == "CODE"
    [warning] = warnings(f"import re\ndef process():\n    return {call}")
    assert "also matches the empty text" in warning


async def test_names_of_the_author_are_not_replaced(sandbox: AsyncMonty) -> None:
    own = "class R:\n    def sub(self, *a):\n        return 'own'\nre = R()\ndef round(x, n):\n    return 'mine'\n"
    assert await run_code(sandbox, own + "def process():\n    return [re.sub('x*'), round(2.675, 2)]") == [
        "own",
        "mine",
    ]
    text = "import re\ndef process():\n    '''re.sub is not called'''\n    return 're.sub'"
    assert await run_code(sandbox, text) == "re.sub"
    assert corrected("def process():\n    return 1")[1] is None


WARNED: dict[str, tuple[str, str]] = {
    "yield": ("def process():\n    def g():\n        yield 1\n    return list(g())", "`yield`"),
    "yield from": ("def process():\n    def g():\n        yield from [1]\n    return list(g())", "`yield from`"),
    "inheritance": ("class Bad(Exception):\n    pass\ndef process():\n    raise Bad('x')", "inheritance"),
    "property": ("class A:\n    @property\n    def x(self):\n        return 1\ndef process():\n    pass", "decorators of"),
    "del": ("def process():\n    d = {'a': 1}\n    del d['a']\n    return d", "`del`"),
    "str.lower as a key": ("def process():\n    return sorted(['b', 'A'], key=str.lower)", "`str.lower` as a function"),
    "d.get as a key": ("def process():\n    d = {'a': 1}\n    return max(d, key=d.get)", "methods as values"),
    "fromtimestamp": ("import datetime as d\ndef process():\n    return d.datetime.fromtimestamp(0)", "`fromtimestamp`"),
    "uuid": ("import uuid\ndef process():\n    return str(uuid.uuid4())", "the module `uuid`"),
    "urllib": ("from urllib.parse import quote\ndef process():\n    return quote('a b')", "the module `urllib.parse`"),
    "a function in re.sub": ("import re\ndef process():\n    return re.sub('a', lambda m: 'b', 'a')", "replacement of"),
    "next of a generator": ("def process():\n    return next((x for x in [1, 2] if x > 1), None)", "generators"),
    "callable": ("def process():\n    return callable(1)", "`callable`"),
    "an exception with two arguments": ("def process():\n    raise ValueError('a', 1)", "one string"),
    "OrderedDict": ("from collections import OrderedDict\ndef process():\n    return 1", "`collections.OrderedDict`"),
    "re.VERBOSE": ("import re\ndef process():\n    return re.findall('a', 'a', re.VERBOSE)", "`re.VERBOSE`"),
    "default": ("import json\ndef process():\n    return json.dumps({1}, default=list)", "`default` and `cls`"),
    "isocalendar": ("import datetime\ndef process():\n    return datetime.date(2026, 1, 1).isocalendar()", "`isocalendar`"),
    "a star": ("from math import *\ndef process():\n    return sqrt(4)", "import *"),
    "an alias of datetime": ("import datetime as dt\ndef process():\n    return str(dt.UTC)", "`datetime.UTC`"),
    "an alias of re": ("import re as r\ndef process():\n    return r.sub('x*', '-', 'abxd')", "matches the empty text"),
    "an alias of collections": ("import collections as c\ndef process():\n    return len(c.OrderedDict())", "OrderedDict"),
    "f = d.get": ("def process():\n    d = {'a': 1}\n    f = d.get\n    return f('a')", "methods as values"),
    "a method as an argument": ("def process():\n    return list(map('a{}'.format, [1]))", "`lambda value: ….format"),
    "latin-1": ("def process():\n    return len('é'.encode('latin-1'))", "the encoding 'latin-1'"),
    "cp1252": ("def process():\n    return b'a'.decode(encoding='cp1252')", "the encoding 'cp1252'"),
    "__class__": ("def process():\n    return str('a'.__class__)", "`__class__`"),
    "__dict__": ("class A:\n    pass\ndef process():\n    return A().__dict__", "`__dict__`"),
    "getattr of a method": ("def process():\n    return getattr('a', 'upper')()", "finds no methods"),
    "translate": ("def process():\n    return 'a'.translate({97: 'b'})", "`translate`"),
}  # fmt: skip
IGNORED = frozenset({"datetime_CAPI", "sys", "enum", "functools", "T", "TEMPLATE", "template"})
"""Members that no program uses, or that only some versions of CPython have."""
FINE = [
    "def process(rows=[]):\n    return sorted(rows, key=lambda r: r['a'])",
    "import json, math\nfrom datetime import datetime, timedelta\ndef process():\n    return json.dumps({'a': math.pi})",
    "class A:\n    def __init__(self, x):\n        self.x = x\ndef process():\n    return A(1).x",
    "def dir(x):\n    return x\ndef process():\n    return dir(1)",
    "def process():\n    d = {}\n    return d.get('a', max([1, 2], key=abs))",
    "import re\ndef process():\n    return [re.sub('x+', '-', 'axb'), bool(re.match('a*', 'b'))]",
    "def process():\n    raise ValueError(f'x {1}')",
    "def process():\n    raise ValueError('a %s' % 1)",
    "def process():\n    raise ValueError('a' + str(1))",
    "def process():\n    m = 'a'\n    raise ValueError(m)",
    "import datetime as dt, re as r\ndef process():\n    return [dt.date.today().year, r.sub('x+', '', 'a')]",
    "class A:\n    def __init__(self, items):\n        self.items = items\n    def get(self):\n        return 1\n"
    "def process():\n    a = A([1])\n    f = a.get\n    return [a.items, f(), hasattr(a, 'get')]",
    "class P:\n    count: int = 1\ndef process():\n    return [P().count, type('a').__name__]",
    "def process():\n    return ['e'.encode('UTF_8').decode(), 'e'.encode(encoding='ascii').decode('utf8')]",
    "import math\ndef process():\n    f = math.sqrt\n    return [f(4), list(map(math.floor, [1.5]))]",
]


@pytest.mark.parametrize("name", WARNED)
async def test_validation_warns_of_what_the_sandbox_lacks(sandbox: AsyncMonty, name: str) -> None:
    code, words = WARNED[name]
    found = warnings(code)
    assert any(words in text for text in found), found
    with pytest.raises(NodeFailure) as failed:
        await run_code(sandbox, code)
    assert failed.value.code == "CODE"


@pytest.mark.parametrize("code", FINE)
def test_validation_does_not_warn_of_what_the_sandbox_has(code: str) -> None:
    assert warnings(code) == []


@pytest.mark.parametrize("keys", ["{1: 2, True: 4}", "{0.0: 1, 'a': 3, 0: 2}", "[{'x': {False: 1, 0: 1}}]"])
def test_equal_keys_of_different_types_are_refused(keys: str) -> None:
    code = f"import json\ndef process():\n    return json.dumps({keys})"
    report = validate({"nodes": [{"id": "c", "type": "code", "config": {"code": code}}]}, TYPES)
    [problem] = report.errors
    assert (problem.field, problem.code, problem.line) == ("nodes[0].config.code", "CONFIG", 3)
    assert "equal keys of different types" in problem.message


@pytest.mark.parametrize("keys", ["{1: 2, '1': 4}", "{1: 2, 1: 4}", "{1: 2, 1.5: 4, None: 5}"])
def test_other_keys_are_not_refused(keys: str) -> None:
    assert warnings(f"import json\ndef process():\n    return json.dumps({keys})") == []


@pytest.mark.parametrize("text", ["'\\ud83d'", "'a\\ud83d\\ude00'", "f'{x}\\udc00'", "{'\\ud800': 1}"])
def test_half_a_character_in_a_text_is_refused(text: str) -> None:
    report = validate(
        {"nodes": [{"id": "c", "type": "code", "config": {"code": f"def process(x=1):\n    return {text}"}}]}, TYPES
    )
    [problem] = report.errors
    assert (problem.field, problem.code, problem.line) == ("nodes[0].config.code", "CONFIG", 2)
    assert "half a character" in problem.message
    assert warnings("def process():\n    return ['\\U0001f600', '\\ud7ff', b'\\xed']") == []


@pytest.mark.parametrize("name", sorted(MISSING_METHODS))
def test_no_advice_names_a_method_that_is_missing(name: str) -> None:
    for kind in (str, int, float, bytes, set):
        if hasattr(kind, name):
            found = warnings(f"def process():\n    return {kind.__name__}.{name}('a')")
            assert found and not any(f"value.{name}" in text for text in found), found


async def lacks(session: AsyncMontySession, code: str) -> bool:
    try:
        await session.feed_run(f"{code}\n1")
    except MontyError:
        return True
    return False


async def test_the_lists_of_what_is_missing_are_those_of_the_sandbox(sandbox: AsyncMonty) -> None:
    async with sandbox.checkout() as session:
        assert {name for name in MODULES if await lacks(session, f"import {name}")} == set()
        functions = {name for name in dir(builtins) if name[0].islower()} - {"copyright", "credits", "license"}
        missing = {name for name in functions | {"__import__"} if await lacks(session, f"x = {name}")}
        assert missing == MISSING_BUILTINS
        methods = {
            name
            for value in ("'a'", "(1)", "(1.5)", "[1]", "{'a': 1}", "{1}", "(1,)")
            for name in dir(eval(value))
            if not name.startswith("_") and not await has_method(session, value, name)
        }
        for value in ("datetime.datetime(2026, 1, 1)", "datetime.date(2026, 1, 1)"):
            names = [name for name in dir(eval(value, {"datetime": datetime})) if name in MISSING_METHODS]
            methods |= {name for name in names if not await has_method(session, f"import datetime\n{value}", name)}
        assert MISSING_METHODS - methods == set()


@pytest.mark.parametrize("name", MISSING_MEMBERS)
async def test_the_members_that_a_module_lacks_are_listed(sandbox: AsyncMonty, name: str) -> None:
    module = importlib.import_module(name)
    own = [member for member in getattr(module, "__all__", dir(module)) if not member.startswith("_")]
    async with sandbox.checkout() as session:
        missing = {member for member in own if await lacks(session, f"import {name}\nx = {name}.{member}")}
    assert missing - IGNORED == MISSING_MEMBERS[name] - IGNORED


async def has_method(session: AsyncMontySession, value: str, name: str) -> bool:
    try:
        await session.feed_run(f"{value}.{name}()")
    except MontyError as error:
        return "has no attribute" not in str(error)
    return True


def test_the_document_lists_the_modules() -> None:
    page = (ROOT / "docs" / "spec.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| Modules |"))
    assert {name for name in MODULES if f"`{name}`" not in row} == {"os.path"}
