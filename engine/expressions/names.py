"""The filters, tests, functions and statements of templates, for validation and for evaluation alike."""

# fmt: off
FILTERS = frozenset({
    "abs", "bool", "capitalize", "chain", "count", "d", "datetime_difference", "datetime_format", "datetime_shift",
    "default", "dictsort", "first", "float", "fromjson", "groupby", "int", "items", "join", "last", "length", "lines",
    "list", "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "round", "select",
    "selectattr", "sort", "split", "string", "sum", "title", "tojson", "trim", "unique", "upper", "urlencode", "zip",
})
TESTS = frozenset({
    "boolean", "defined", "divisibleby", "endingwith", "eq", "equalto", "even", "false", "float", "ge", "greaterthan",
    "gt", "in", "int", "integer", "iterable", "le", "lessthan", "lower", "lt", "mapping", "ne", "none", "number", "odd",
    "sameas", "sequence", "startingwith", "string", "true", "undefined", "upper", "<", "<=", ">", ">=", "==", "!=",
})
REMOVED_FILTERS = (
    "attr", "batch", "center", "e", "escape", "filesizeformat", "format", "indent", "pluralize", "pprint", "safe",
    "slice", "striptags", "truncate", "wordwrap",
)
"""Filters of minijinja whose result may be much larger than their input, whatever the fuel, and those for HTML."""
# fmt: on
REMOVED_TESTS = ("escaped", "filter", "safe", "test")
REMOVED_FUNCTIONS = ("cycler", "debug", "joiner", "namespace")
FUNCTIONS = frozenset({"range", "dict"})
UNAVAILABLE_STATEMENTS = frozenset(
    {"include", "import", "from", "extends", "block", "macro", "call", "do", "autoescape"}
)
ENDS = {"if": "endif", "for": "endfor", "with": "endwith", "filter": "endfilter", "set": "endset"}
"""The statements that need an end; `set` only without `=`."""
FILTERS_BY_NAME = {"map": 0}
"""Filters one of whose arguments is the name of a filter, and the index of that argument."""
TESTS_BY_NAME = {"select": 0, "reject": 0, "selectattr": 1, "rejectattr": 1}
"""Filters one of whose arguments is the name of a test, and the index of that argument."""
