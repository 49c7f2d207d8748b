"""Rewrites stores into objects, so that of two equal keys the first one stays, as in CPython.

After `d = {1: "a"}; d[True] = "b"` the sandbox has `{True: "b"}` and CPython `{1: "b"}`. So each
expression that stores a key is put into a call of a function that replaces the key by the equal key
of the object. Only texts are inserted, and none has a line break: lines stay, and columns can be
computed. Keys that are plainly texts are left alone.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

_FUNCTIONS = """
class __treadle_Key__:
    def __init__(self, key):
        self.key = key
    def __hash__(self):
        return hash(self.key)
    def __eq__(self, other):
        if type(other) is __treadle_Key__:
            if self.key is other.key or self.key == other.key:
                other.key = self.key
                return True
        elif self.key is other or self.key == other:
            self.key = other
            return True
        return False
class __treadle_Items__:
    def __init__(self, items):
        self.items = items
    def __getitem__(self, key):
        return self.items[key]
    def __setitem__(self, key, value):
        self.items[__treadle_key__(self.items, key)] = value
class __treadle_Left__:
    def __init__(self, items):
        self.items = items
    def update(self, *others, **named):
        return self.items.update(*[__treadle_aligned__(self.items, other) for other in others], **named)
    def subtract(self, *others, **named):
        return self.items.subtract(*[__treadle_aligned__(self.items, other) for other in others], **named)
    def __or__(self, other):
        return self.items | __treadle_aligned__(self.items, other, False)
    def __add__(self, other):
        return self.items + __treadle_aligned__(self.items, other, False)
    def __sub__(self, other):
        return self.items - __treadle_aligned__(self.items, other, False)
def __treadle_plain__(key):
    kind = type(key)
    if kind is str or (kind is int and not __treadle_mixed__[0]):
        return True
    is_known = kind is int or kind is bool or kind is float or isinstance(key, tuple) or isinstance(key, frozenset)
    if is_known or kind.__name__ in ('Decimal', 'datetime', 'timedelta'):
        __treadle_mixed__[0] = True
        return False
    return True
def __treadle_seen__(key):
    __treadle_plain__(key)
    return key
def __treadle_key__(items, key):
    kind = type(key)
    if kind is str or (kind is int and not __treadle_mixed__[0]):
        return key
    if __treadle_plain__(key) or not isinstance(items, dict) or key not in items:
        return key
    found = __treadle_Key__(key)
    return found.key if found in items else key
def __treadle_wrapped__(key):
    kind = type(key)
    if kind is str or (kind is int and not __treadle_mixed__[0]) or __treadle_plain__(key):
        return key
    key not in {}
    return __treadle_Key__(key)
def __treadle_spread__(items):
    if not isinstance(items, dict):
        return items
    for key in items:
        if type(key) is not str and not __treadle_plain__(key):
            return {__treadle_wrapped__(key): items[key] for key in items}
    return items
def __treadle_unwrapped__(items):
    if not __treadle_mixed__[0]:
        return items
    return {key.key if type(key) is __treadle_Key__ else key: items[key] for key in items}
def __treadle_first__(keys):
    found, all_keys = {}, []
    for key in keys:
        key = __treadle_key__(found, key)
        found[key] = None
        all_keys.append(key)
    return all_keys
def __treadle_pairs__(pairs):
    if isinstance(pairs, dict):
        return pairs
    pairs, found = list(pairs), {}
    for pair in pairs:
        try:
            key, value = pair
        except Exception:
            return pairs
        found[__treadle_key__(found, key)] = value
    return found
def __treadle_elements__(elements):
    return elements if isinstance(elements, dict) else __treadle_first__(elements)
def __treadle_aligned__(items, other, may_be_list=True):
    if not isinstance(items, dict) or not (may_be_list or isinstance(other, dict)):
        return other
    if not isinstance(other, dict):
        if type(items).__name__ == 'Counter':
            return [__treadle_key__(items, key) for key in __treadle_first__(other)]
        other = __treadle_pairs__(other)
        if not isinstance(other, dict):
            return other
    for key in other:
        if not __treadle_plain__(key):
            aligned = other.copy()
            aligned.clear()
            for key in other:
                aligned[__treadle_key__(items, key)] = other[key]
            return aligned
    return other
def __treadle_left__(items):
    return __treadle_Left__(items) if isinstance(items, dict) else items
def __treadle_items__(items):
    return __treadle_Items__(items) if isinstance(items, dict) else items
"""
"""The functions that the inserted texts call."""
_BUILT_INS = ("bool", "dict", "float", "frozenset", "hash", "int", "isinstance", "list", "str", "tuple", "type")

_OWN = re.compile(r"__treadle_\w+?__")
_KEPT = re.sub(rf"\b({'|'.join(_BUILT_INS)})\b", r"__treadle_\1__", _FUNCTIONS)
"""The functions with names of their own for the built-ins, as the author may redefine those."""
_PARTS = {f"__treadle_{name}__": f"__treadle_{name}__ = {name}\n" for name in _BUILT_INS} | {
    _OWN.findall(part)[0]: part for part in re.split(r"^(?=class |def )", _KEPT, flags=re.MULTILINE)[1:]
}
"""The functions by name. Only those are defined that a source needs, as each costs time."""
_TEXT_FUNCTIONS = frozenset(["bin", "chr", "format", "hex", "oct", "repr", "str"])
# fmt: off
_TEXT_METHODS = frozenset([
    "capitalize", "casefold", "center", "dumps", "format", "hexdigest", "isoformat", "join", "ljust", "lower", "lstrip",
    "removeprefix", "removesuffix", "rjust", "rstrip", "strftime", "strip", "swapcase", "title", "upper", "zfill",
])
# fmt: on
_ALIGNED = frozenset(["subtract", "update"])

Insertions = Mapping[int, list[tuple[int, str]]]
"""By line: the inserted texts, with the byte before which each stands."""


class _KeyStores(ast.NodeVisitor):
    """Collects the texts to insert for all expressions that store keys."""

    def __init__(self, module: ast.Module) -> None:
        self.opened: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
        self.closed: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
        self.has_mixed_keys = False
        self._bound = set(_bound_names(module))
        self._types = {"dict": "dict"} if "dict" not in self._bound else {}
        self._modules: set[str] = set()
        for name, original in _imports(module):
            if original == "collections":
                self._modules.add(name)
            elif original in ("collections.Counter", "collections.defaultdict"):
                self._types[name] = original.removeprefix("collections.")
        self._has_counters = "Counter" in self._types.values() or bool(self._modules)
        self._has_defaults = "defaultdict" in self._types.values() or bool(self._modules)
        self.visit(module)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        is_store = (
            isinstance(node.ctx, ast.Store) and not isinstance(node.slice, ast.Slice) and not _is_text(node.slice)
        )
        has_star = isinstance(node.slice, ast.Tuple) and any(isinstance(one, ast.Starred) for one in node.slice.elts)
        if isinstance(node.ctx, ast.Load) and self._has_defaults and not isinstance(node.slice, ast.Slice | ast.Tuple):
            self.visit(node.value)
            self._see(node.slice)
        elif not is_store or has_star:
            self.generic_visit(node)
        elif isinstance(node.value, ast.Name):
            self._wrap(node.slice, f"__treadle_key__({node.value.id}, (", "))")
        else:
            self._wrap(node.value, "__treadle_items__((", "))")
            self.visit(node.slice)

    def visit_Dict(self, node: ast.Dict) -> None:
        entries = list(zip(node.keys, node.values, strict=True))
        other = [key for key in node.keys if key is None or not _is_text(key)]
        self.has_mixed_keys |= any(isinstance(key, ast.Constant) and type(key.value) is not int for key in other)
        if len(other) < 2 or all(isinstance(key, ast.Constant) for key in other):
            for key, value in entries:
                if key is not None:
                    self._see(key)
                self.visit(value)
            return
        self._open(node, "__treadle_unwrapped__((")
        for key, value in entries:
            if key is None:
                self._wrap(value, "__treadle_spread__((", "))")
                continue
            self._visit_key(key)
            self.visit(value)
        self._close(node, "))")

    def visit_DictComp(self, node: ast.DictComp) -> None:
        is_text = _is_text(node.key)
        if not is_text:
            self._open(node, "__treadle_unwrapped__((")
        self._visit_key(node.key)
        for child in (node.value, *node.generators):
            self.visit(child)
        if not is_text:
            self._close(node, "))")

    def visit_Call(self, node: ast.Call) -> None:
        function, wrapped = self._function(node.func), {}
        position = 1 if function == "defaultdict" else 0
        names = {"dict": "pairs", "defaultdict": "pairs", "fromkeys": "first", "Counter": "elements"}
        if function in names and len(node.args) > position:
            argument = node.args[position]
            if not any(isinstance(one, ast.Starred) for one in node.args[: position + 1]):
                wrapped = {argument: f"__treadle_{names[function]}__(("}
        if isinstance(node.func, ast.Attribute) and node.func.attr == "setdefault" and node.args:
            if isinstance(node.args[0], ast.Constant):
                self._see(node.args[0])
            elif not _is_text(node.args[0]) and not isinstance(node.args[0], ast.Starred):
                wrapped = {node.args[0]: "__treadle_seen__(("}
        if _is_aligned(node) and isinstance(node.func, ast.Attribute):
            self._wrap(node.func.value, "__treadle_left__((", "))")
        else:
            self.visit(node.func)
        for child in (*node.args, *node.keywords):
            if child not in wrapped:
                self.visit(child)
            elif isinstance(child, ast.GeneratorExp) and _end(child) == _end(node):
                self._wrap_inside(child, wrapped[child])
            elif isinstance(child, ast.expr):
                self._wrap(child, wrapped[child], "))")

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if self._joins(node.op) and not _is_text(node.left) and not _is_number(node.left):
            self._wrap(node.left, "__treadle_left__((", "))")
            self.visit(node.right)
        else:
            self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.visit(node.target)
        has_call = any(isinstance(one, ast.Call | ast.NamedExpr) for one in ast.walk(node.target))
        is_plain = _is_text(node.value) or _is_number(node.value)
        if not self._joins(node.op) or has_call or is_plain:
            self.visit(node.value)
        else:
            self._wrap(
                node.value,
                f"__treadle_aligned__({ast.unparse(node.target)}, (",
                f"), {isinstance(node.op, ast.BitOr)})",
            )

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Leave f-strings alone: before CPython 3.12 the positions inside them are wrong."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    def visit_arguments(self, node: ast.arguments) -> None:
        for default in (*node.defaults, *node.kw_defaults):
            if default is not None:
                self.visit(default)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        for child in (*node.decorator_list, node.args, *node.body):
            self.visit(child)

    def _joins(self, operator: ast.operator) -> bool:
        return isinstance(operator, ast.BitOr) or (self._has_counters and isinstance(operator, ast.Add | ast.Sub))

    def _function(self, function: ast.expr) -> str | None:
        """Return the name of the function of a call if it makes an object from keys."""
        if isinstance(function, ast.Name):
            return self._types.get(function.id) if function.id != "dict" or "dict" not in self._bound else None
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            if function.value.id in self._modules and function.attr in ("Counter", "defaultdict"):
                return function.attr
            if function.attr == "fromkeys" and self._types.get(function.value.id) == "dict":
                return "fromkeys"
        return None

    def _see(self, key: ast.expr) -> None:
        if isinstance(key, ast.Constant):
            self.has_mixed_keys |= type(key.value) in (bool, float)
        elif _is_text(key):
            self.visit(key)
        else:
            self._wrap(key, "__treadle_seen__((", "))")

    def _visit_key(self, key: ast.expr) -> None:
        if _is_text(key):
            self.visit(key)
        else:
            self._wrap(key, "__treadle_wrapped__((", "))")

    def _wrap(self, node: ast.expr, before: str, after: str) -> None:
        self._open(node, before)
        self.visit(node)
        self._close(node, after)

    def _wrap_inside(self, node: ast.GeneratorExp, before: str) -> None:
        """Wrap a generator expression that shares its brackets with the call."""
        line, column = _end(node)
        self.opened[node.lineno, node.col_offset + 1].append(before)
        self.visit(node)
        self.closed[line, column - 1].append("))")

    def _open(self, node: ast.expr, text: str) -> None:
        self.opened[node.lineno, node.col_offset].append(text)

    def _close(self, node: ast.expr, text: str) -> None:
        self.closed[_end(node)].append(text)


def insertions(module: ast.Module) -> tuple[Insertions, str]:
    """Return the texts to insert into the source of a module, and the code to run before it.

    Both are empty if the module stores no key that may not be a text.
    """
    stores = _KeyStores(module)
    if not stores.opened:
        return {}, ""
    found: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)
    used: list[str] = []
    for line, column in sorted(stores.opened.keys() | stores.closed.keys()):
        text = "".join((*stores.closed[line, column], *stores.opened[line, column]))
        found[line].append((column, text))
        used += _OWN.findall(text)
    return found, f"__treadle_mixed__ = [{stores.has_mixed_keys}]\n{_functions(used)}"


def _functions(names: list[str]) -> str:
    """Return the source of the functions with these names, and of all that they call."""
    needed: set[str] = set()
    while names:
        if (name := names.pop()) not in needed and name in _PARTS:
            needed.add(name)
            names += _OWN.findall(_PARTS[name])
    return "".join(part for name, part in _PARTS.items() if name in needed)


def _end(node: ast.expr) -> tuple[int, int]:
    return node.end_lineno or node.lineno, node.end_col_offset or node.col_offset


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


def _is_text(node: ast.expr) -> bool:
    """Tell whether an expression has no equal value of another type: a text, or null."""
    match node:
        case ast.Constant(value=str() | bytes() | None) | ast.JoinedStr():
            return True
        case ast.Call(func=ast.Name(id=name)):
            return name in _TEXT_FUNCTIONS
        case ast.Call(func=ast.Attribute(attr=name)):
            return name in _TEXT_METHODS
        case ast.BinOp(left=left, op=ast.Mod()):
            return _is_text(left)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _is_text(left) or _is_text(right)
        case ast.IfExp(body=body, orelse=other):
            return _is_text(body) and _is_text(other)
    return False


def _is_aligned(node: ast.Call) -> bool:
    """Tell whether a call is `d.update(…)` with keys that may not be texts."""
    if not isinstance(node.func, ast.Attribute) or node.func.attr not in _ALIGNED or not node.args:
        return False
    first = node.args[0]
    has_texts = isinstance(first, ast.Dict) and all(key is not None and _is_text(key) for key in first.keys)
    return not has_texts and not isinstance(first, ast.Starred)


def _bound_names(module: ast.Module) -> Iterator[str]:
    """Return the names that a module binds in any scope."""
    for node in ast.walk(module):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name


def _imports(module: ast.Module) -> Iterator[tuple[str, str]]:
    """Return what a module imports: the bound name, and the imported one with its module."""
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from ((alias.asname or alias.name, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((alias.asname or alias.name, f"{node.module}.{alias.name}") for alias in node.names)
