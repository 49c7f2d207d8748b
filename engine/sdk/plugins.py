"""Explain why the package of an entry point could not be loaded, in one line.

The registries of node types and of tools show the line in their catalogs.
"""

from importlib.metadata import EntryPoint

MOVED = {
    "engine.nodes.base": "import NodeType from treadle",
    "engine.tools.base": "import ToolFailed from treadle",
    "engine.trial": "import try_node from treadle.testing",
}
"""Modules that packages imported before the package `treadle` existed, with the new import."""


def load_error(entry: EntryPoint, error: BaseException) -> str:
    """Describe why an entry point could not be loaded.

    Args:
        entry: The entry point. Its value, such as `my_package:MyNode`, begins the line.
        error: The exception that its import or its check raised.
    """
    return f"{entry.value}: {_moved(error) or f'{type(error).__name__}: {error}'}"


def _moved(error: BaseException) -> str | None:
    """Return the message for an import from the engine that fails, or None for other errors."""
    module = error.name if isinstance(error, ImportError) else None
    if module is None or module.partition(".")[0] != "engine":
        return None
    if module in MOVED:
        return f"{module} has moved: {MOVED[module]}"
    return f"{error}; the engine is internal to Treadle: import from treadle"
