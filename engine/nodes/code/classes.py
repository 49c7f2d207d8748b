"""The classes of the author's source: the special methods that the sandbox never calls."""

import ast

# fmt: off
UNCALLED_METHODS = frozenset({
    "__bool__", "__bytes__", "__class_getitem__", "__del__", "__delattr__", "__delete__", "__format__", "__ge__",
    "__get__", "__getattr__", "__getattribute__", "__gt__", "__iadd__", "__iand__", "__ifloordiv__",
    "__ilshift__", "__imatmul__", "__imod__", "__imul__", "__init_subclass__", "__ior__", "__ipow__",
    "__irshift__", "__isub__", "__itruediv__", "__ixor__", "__le__", "__len__", "__lt__", "__ne__", "__new__",
    "__reversed__", "__set__", "__set_name__", "__setattr__", "__sizeof__",
})
# fmt: on
"""Without them, an operation fails in the sandbox, or has another result than in Python and no error."""


def uncalled_method(module: ast.Module) -> ast.FunctionDef | None:
    """Return a method of a class that Python would call, and the sandbox never does."""
    classes = (node for node in ast.walk(module) if isinstance(node, ast.ClassDef))
    methods = (item for node in classes for item in node.body if isinstance(item, ast.FunctionDef))
    return next((method for method in methods if method.name in UNCALLED_METHODS), None)
