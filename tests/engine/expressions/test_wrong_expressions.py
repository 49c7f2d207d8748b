"""Many small wrong expressions: each message has a place, and no term of a library or of Python."""

import re
from collections.abc import Iterator
from itertools import product

from engine.expressions import environment
from engine.expressions.errors import ExpressionError
from engine.expressions.evaluator import check
from engine.expressions.names import FILTERS, TESTS
from engine.types import JSON

SCOPE: dict[str, JSON] = {"input": {"n": None, "s": "x", "o": {"k": 1}}}
VALUES = ["none", "true", "[]", "{}", "''", "'x'", "2", "2.5", "[1, none]", "{'a': none}", "input.n", "nope", "-1"]
FEW = ["none", "[]", "{'a': none}", "'x'", "2.5", "nope"]
ARGUMENTS = ["", "(none)", "([])", "({})", "('x')", "(-1)", "(x=1)", "(attribute='a')", "('a', 'gt', 1)", "(days=none)"]
OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "~", "<", "<=", ">", ">=", "==", "!=", "in", "and", "or"]
METHODS = [
    "capitalize",
    "count",
    "endswith",
    "find",
    "get",
    "items",
    "keys",
    "lower",
    "split",
    "strip",
    "title",
    "upper",
    "values",
    "format",
    "join",
    "append",
    "foo",
]
TEXTS = [
    "input.s | replace('a', 'b') | upper ~ '!'",
    "{'a': [1, 2][0:1], 'b': (1 + 2) * 3}",
    "input.o.k if input.s is not defined else -input.o.k",
    "Dear {{ input.s | upper }}, {% if input.o.k > 1 %}{{ [1, 2] }}{% endif %}{# note #}",
    "{{ {'a': 'b'} }}",
]
STATEMENTS = [
    "if",
    "elif",
    "else",
    "for",
    "set",
    "with",
    "filter",
    "do",
    "break",
    "continue",
    "block",
    "macro",
    "call",
    "raw",
]
STATEMENTS += ["include", "import", "from", "extends", "autoescape", "nope"]
BODIES = [
    "",
    "a",
    "a b",
    "a in b",
    "a in",
    "in a",
    "a = 1",
    "a.b = 1",
    "a, b = 1",
    "a =",
    "= 1",
    "upper",
    "nope",
    "a | nope",
]
BODIES += [
    "upper | nope",
    "a()",
    "(a)",
    "'x'",
    "1 2",
    "a in 2",
    "a if",
    "a in [1] recursive",
    "self = 1",
    "a[]",
    "x(a=1, 2)",
    "loop(1)",
]
FOREIGN = re.compile(
    r"NoneType|\bNone\b|\bTrue\b|\bFalse\b|\btuple\b|\bdict\b|\bstr\b|\bint\b|\bfloat\b|\bbool\b|\bsequence\b|\bmapping\b"
    r"|minijinja|iterable|\bkeyword\b|positional|object of type|unsupported|unhashable|<class|__|\b[iuf]\d\d\b|isize|usize"
    r"|call block|assignment operator|keyword arg|end of input|expected (?:as|in|import)\b|\bbytes\b"
    r"|Error\b|invalid operation|undefined value|variable block|literal|identifier|this operation|this value|\(\.\.\.\)"
)
QUOTED = re.compile(r"`[^`]*`|'[^']*'")


def expressions() -> Iterator[str]:
    """Yield every operator, filter, test and method with values of every type."""
    for value in VALUES:
        yield from (f"-{value}", f"not {value}.a.b", f"{value}.a.b", f"{value}()", f"dict({value})", f"range({value})")
        yield from (
            f"{{{value}: 1}}",
            f"[1, 2][{value}]",
            f"'abc'[{value}:]",
            f"'abc'[::{value}]",
            f"{value} | map({value})",
        )
    for left, operator, right in product(VALUES, OPERATORS, VALUES):
        yield f"{left} {operator} {right}"
    for value, name, arguments in product(FEW, sorted(FILTERS), ARGUMENTS):
        yield f"{value} | {name}{arguments}"
    for value, name, arguments in product(
        FEW, sorted(filter(str.isalpha, TESTS)), ("", "(none)", "([])", "(1, 2)", "(x=1)")
    ):
        yield f"{value} is {name}{arguments}"
    for value, name, arguments in product(FEW, METHODS, ("()", "(none)", "('x')", "(1, 2)", "(x=1)")):
        yield f"{value}.{name}{arguments}"
    for left, right in product(FEW, VALUES):
        yield from (f"{left}[{right}]", f"{left} if {right}.c else 1", f"{left} {right}", f"{left} is in {right}")


def broken_texts() -> Iterator[str]:
    """Yield texts that end too early, and texts that lack a character or have one too many."""
    for text in TEXTS:
        for index in range(len(text)):
            yield from (text[:index], text[:index] + text[index + 1 :], text[:index] + "$" + text[index:])
            yield from (text[:index] + mark + text[index:] for mark in "{}()'|.,")


def statements() -> Iterator[str]:
    """Yield templates with one statement: with its end, without it, and with the end of another one."""
    for word, body in product(STATEMENTS, BODIES):
        for end in ("", f"{{% end{word} %}}", "{% endif %}"):
            yield f"a {{% {word} {body} %}}x{end}"


def problem_of(text: str, *, expression: bool) -> tuple[str, int | None, int | None] | None:
    try:
        (environment.evaluate if expression else environment.render)(text, SCOPE)
    except ExpressionError as error:
        return error.message, error.line, error.column
    return None


def complaints(text: str, *, expression: bool) -> list[str]:
    found = problem_of(text, expression=expression)
    problems = [found] if found else []
    problems += check(text, expression=expression)
    return [
        f"{text!r} {line}:{column} {message}"
        for message, line, column in problems
        if not line or not column or column > len(text) + 1 or FOREIGN.search(QUOTED.sub("", message))
    ]


def test_the_message_of_a_wrong_expression_has_a_place_and_no_foreign_term() -> None:
    found = [complaint for code in expressions() for complaint in complaints(code, expression=True)]
    assert found == []


def test_the_message_of_a_wrong_template_has_a_place_and_no_foreign_term() -> None:
    every_fourth = list(expressions())[::4]
    found = [complaint for code in every_fourth for complaint in complaints(f"a {{{{ {code} }}}}", expression=False)]
    assert found == []


def test_the_message_of_a_wrong_statement_has_a_place_and_no_foreign_term() -> None:
    assert [complaint for text in statements() for complaint in complaints(text, expression=False)] == []


def test_a_statement_that_validation_accepts_has_names_that_exist() -> None:
    """Such a template can only fail by its values."""
    failed = {text: problem_of(text, expression=False) for text in statements() if not check(text, expression=False)}
    assert [text for text, found in failed.items() if found and "there is no" in found[0]] == []


def test_the_message_of_a_broken_text_has_a_place_and_no_foreign_term() -> None:
    texts = dict.fromkeys(broken_texts())
    found = [one for text in texts for kind in (True, False) for one in complaints(text, expression=kind)]
    assert found == []
