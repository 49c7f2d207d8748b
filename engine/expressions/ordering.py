"""Order values in templates: comparisons, and the filters and tests that compare.

minijinja orders values of every two types, so `"7" > 10` is true and `sort` mixes texts and numbers.
Here only values of one type have an order: two numbers, two texts, two booleans, or two lists whose
items have one. Everything else raises OrderingError. The module has no state.
"""

from collections.abc import Callable
from functools import cmp_to_key
from itertools import pairwise
from math import log2
from typing import Any, Final

from engine.expressions.views import charge, charge_all, computed, is_view, to_plain, unwrap
from engine.types import JSON
from engine.values import kinds
from engine.values.storable import check_storable

Key = Callable[[Any], Any]

UNDEFINED: Final = object()
"""An undefined value, which a function in Python would otherwise receive as None."""
PATH_ITEM, PATH_VALUE = "item", "value"
"""The fields of a pair of `with_values`."""
COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda left, right: bool(_plain(left) < _plain(right)),
    "<=": lambda left, right: bool(_plain(left) <= _plain(right)),
    ">": lambda left, right: bool(_plain(left) > _plain(right)),
    ">=": lambda left, right: bool(_plain(left) >= _plain(right)),
}
"""The operators that order."""
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    **COMPARE,
    "==": lambda left, right: bool(_plain(left) == _plain(right)),
    "!=": lambda left, right: bool(_plain(left) != _plain(right)),
    "in": lambda left, right: _contains(right, left),
    "not in": lambda left, right: not _contains(right, left),
}
_NUMBERS = (int, float)
_ORDERED = ("a boolean", "a number", "a text", "a list")


class OrderingError(Exception):
    """Two values have no order.

    Attributes:
        kinds: What the two values are, such as `a text`; "undefined" for one that does not exist.
        operand: The index of the first of the two among the operands of a comparison.
        place: The index of the comparison or filter in its source (engine/expressions/lowering.py).
        name: The filter or test that ordered; empty for a comparison.
        is_input_missing: Whether the input of the filter is undefined.
        is_inside_lists: Whether the values are items of two lists.
    """

    def __init__(self, left: str, right: str, operand: int = 0) -> None:
        super().__init__(f"{left} and {right} have no order")
        self.kinds, self.operand = (left, right), operand
        self.place: int | None = None
        self.name = ""
        self.is_input_missing = self.is_inside_lists = False


def kind(value: Any) -> str:
    """Name the JSON type of a value, with its article."""
    return "undefined" if value is UNDEFINED else kinds.kind(unwrap(value))


def compare(place: int, first: Any, *others: Any) -> bool:
    """Evaluate `first operator value operator value …`, each pair of neighbours as in Python.

    Args:
        place: The index of the comparison in its source.
        first: The first operand.
        others: The operators and the other operands, in turn.

    Raises:
        OrderingError: Two neighbours have no order, or an operand is undefined.
    """
    try:
        if len(others) == 2:
            return _holds(first, *others)
        pairs = pairwise((first, *others[1::2]))
        return all(
            _holds(left, operator, right, index)
            for index, (operator, (left, right)) in enumerate(zip(others[::2], pairs, strict=True))
        )
    except OrderingError as error:
        error.place = place
        raise


def present(value: Any, place: int) -> Any:
    """Return a value of a list or an object.

    Args:
        value: The value.
        place: The index of the value in its source.

    Raises:
        OrderingError: The value is undefined.
    """
    if value is UNDEFINED:
        error = OrderingError("undefined", "undefined")
        error.place = place
        raise error
    return value


def _holds(left: Any, operator: str, right: Any, operand: int = 0) -> bool:
    if type(left) in _NUMBERS and type(right) in _NUMBERS:  # the common case
        return _OPERATORS[operator](left, right)
    if operator in COMPARE or left is UNDEFINED or right is UNDEFINED:
        _check_order(left, right, operand)
    return _OPERATORS[operator](left, right)


def ordering_test(name: str, operator: str) -> Callable[[Any, Any], bool]:
    """Return the test that `x is gt(5)` and `select('gt', 5)` call."""

    def test(left: Any, right: Any) -> bool:
        try:
            return _holds(left, operator, right)
        except OrderingError as error:
            error.name = name
            raise

    return test


def _check_order(left: Any, right: Any, operand: int = 0) -> None:
    """Check that two values have an order. Raises OrderingError."""
    kinds = kind(left), kind(right)
    if kinds[0] != kinds[1] or kinds[0] not in _ORDERED:
        raise OrderingError(*kinds, operand)
    if kinds[0] == "a list":
        pairs = zip(_plain(left), _plain(right), strict=False)
        if first_unequal := next((pair for pair in pairs if pair[0] != pair[1]), None):
            _check_items(*first_unequal, operand)


def _check_items(left: Any, right: Any, operand: int) -> None:
    try:
        _check_order(left, right, operand)
    except OrderingError as error:
        error.is_inside_lists = True
        raise


def _plain(value: Any) -> Any:
    """Return a value as plain JSON, and charge a list or an object, of which all may be read."""
    data = unwrap(value)
    if not isinstance(data, list | tuple | dict):
        return data
    charge_all(data)
    return to_plain(value)


def _contains(container: Any, value: Any) -> bool:
    plain = _plain(container)
    if isinstance(plain, str):
        return isinstance(value, str) and value in plain
    return _plain(value) in plain if isinstance(plain, list | dict) else False


def sort(value: Any, /, *, case_sensitive: bool = True, reverse: bool = False, attribute: str | None = None) -> Any:
    """Sort a list. `case_sensitive=false` ignores the case of texts, here and in the other filters."""
    items = _items(value, "sort")
    return _result(value, sorted(items, key=_ordering_key(items, attribute, case_sensitive), reverse=reverse))


def dictsort(value: Any, /, *, by: str = "key", case_sensitive: bool = True, reverse: bool = False) -> Any:
    """Sort an object by its keys or by its values. Returns pairs."""
    if by not in ("key", "value"):
        raise ValueError("`by` must be 'key' or 'value'")
    if value is UNDEFINED:
        raise missing_input()
    if not isinstance(to_plain(value), dict):
        raise TypeError(f"`dictsort` needs an object, not {kind(value)}")
    pairs = [[key, inner] for key, inner in _plain(value).items()]
    key = _ordering_key(pairs, "1" if by == "value" else "0", case_sensitive)
    return _result(value, sorted(pairs, key=key, reverse=reverse))


def groupby(
    value: Any, /, attribute: str | int | None = None, *, default: Any = UNDEFINED, case_sensitive: bool = True
) -> Any:
    """Group the items of a list by an attribute. Returns pairs of its value and the items."""
    if attribute is None:
        raise TypeError("`groupby` needs the name of an attribute")
    fallback, path = default if default is UNDEFINED else to_plain(default), str(attribute)
    items = _items(value, "groupby")
    key = _ordering_key(items, path, case_sensitive, fallback)
    groups: list[list[Any]] = []
    for item in sorted(items, key=key):
        if not groups or key(item) != key(groups[-1][1][-1]):
            found = value_at(item, path, fallback)
            groups.append([None if found is UNDEFINED else found, []])
        groups[-1][1].append(item)
    return _result(value, groups, groups=True)


def smallest(value: Any, /, *, attribute: str | None = None, case_sensitive: bool = True) -> Any:
    """Return the first of the smallest items of a list, in a list; an empty one if there is none."""
    items = _items(value, "min")
    key = _ordering_key(items, attribute, case_sensitive)
    return _result(value, [min(items, key=key)] if items else [])


def largest(value: Any, /, *, attribute: str | None = None, case_sensitive: bool = True) -> Any:
    """Return the first of the largest items of a list, in a list; an empty one if there is none."""
    items = _items(value, "max")
    key = _ordering_key(items, attribute, case_sensitive)
    return _result(value, [max(items, key=key)] if items else [])


def unique(value: Any, /, *, case_sensitive: bool = True, attribute: str | None = None) -> Any:
    """Remove the items of a list that equal an earlier one. `1` and `true` are not equal."""
    items, key = _items(value, "unique"), _key(attribute, case_sensitive)
    charge_all(items)
    seen: dict[Any, Any] = {}
    for item in items:
        seen.setdefault(_identity(key(item)), item)
    return _result(value, list(seen.values()))


def with_values(value: Any, path: str, /) -> Any:
    """Pair each item of a list with its value at a path: `{item, value}`, without a missing value."""
    pairs = []
    for item in _items(value, "selectattr"):
        found = value_at(item, path, UNDEFINED)
        pairs.append({PATH_ITEM: item} if found is UNDEFINED else {PATH_ITEM: item, PATH_VALUE: found})
    return _result(value, pairs)


def _items(value: Any, name: str) -> list[Any]:
    """Return the items that a filter iterates over, as plain JSON."""
    if value is UNDEFINED:
        raise missing_input()
    plain = to_plain(value)
    if plain is None:
        return []  # as in every other filter, null has no items
    if not isinstance(plain, list | dict | str):
        raise TypeError(f"`{name}` needs a list, not {kind(value)}")
    charge(len(plain) * (1 + log2(len(plain) + 1) / 2))
    return list(plain)


def missing_input() -> OrderingError:
    """Return the error of a filter whose input is undefined."""
    error = OrderingError("undefined", "undefined")
    error.is_input_missing = True
    return error


def _result(value: Any, result: list[Any], *, groups: bool = False) -> Any:
    """Return the result of a filter. Data of the run was checked when it entered the run."""
    if not is_view(value):
        check_storable(result)
    return computed(result, groups=groups)


def _ordering_key(items: list[Any], attribute: str | None, case_sensitive: bool, default: Any = UNDEFINED) -> Key:
    """Return what the items are ordered by. Raises OrderingError if two of them have no order."""
    key = _key(attribute, case_sensitive, default)
    keys = [key(item) for item in items]
    charge_all(keys)
    for pair in pairwise(keys):
        _check_order(*pair)
    if len(keys) < 2 or not isinstance(keys[0], list):
        return key
    ordered = cmp_to_key(_compare_lists)
    return lambda item: ordered(key(item))


def _key(attribute: str | None, case_sensitive: bool, default: Any = UNDEFINED) -> Key:
    """Return what items are compared by: themselves, or the values at the paths of `attribute`."""
    paths = [] if attribute is None else [path.strip() for path in str(attribute).split(",") if path.strip()]

    def fold(found: Any) -> Any:
        return found.casefold() if isinstance(found, str) and not case_sensitive else found

    if not paths:
        return fold
    if len(paths) == 1:
        return lambda item: fold(value_at(item, paths[0], default))
    return lambda item: [fold(value_at(item, path, default)) for path in paths]


def _compare_lists(left: list[Any], right: list[Any]) -> int:
    _check_order(left, right)
    return (left > right) - (left < right)


def value_at(item: Any, path: str, default: Any) -> Any:
    """Return the value at a path such as `user.name` or `0.price`, or the default."""
    for name in path.split("."):
        if isinstance(item, dict) and name in item:
            item = item[name]
        elif isinstance(item, list) and name.isdecimal() and int(name) < len(item):
            item = item[int(name)]
        else:
            return default
    return item


def is_same(left: Any, right: Any) -> bool:
    """Tell whether two values are equal and have one JSON type, for the test `sameas`."""
    return bool(_identity(_plain(left)) == _identity(_plain(right)))


def _identity(value: JSON) -> Any:
    """Return a hashable value that is equal for equal JSON values only."""
    if isinstance(value, dict):
        return "an object", frozenset((key, _identity(inner)) for key, inner in value.items())
    if isinstance(value, list):
        return "a list", tuple(map(_identity, value))
    return kind(value), value
