"""The API for authors of node types, tools and trigger kinds, and the client. Other projects import no other package.

The packages app, engine, persistence, resolvers, schema, web and worker are internal.
docs/extending.md shows a complete node type with its test.

Stability:
    The names in `__all__` of this package and of its modules are stable, together with their
    documented parameters, attributes and behavior. Versions follow Semantic Versioning 2.0.0:

    - A patch version changes no stable name.
    - A minor version may add names, optional parameters, and members of NodeContext. Until
      version 1.0 it may also change or remove stable names. CHANGELOG.md then lists each of them
      under "Changed" or "Removed", with its replacement.
    - From version 1.0 on, only a major version changes or removes stable names. The release
      before it warns with a DeprecationWarning.

    The entry point groups `treadle.nodes`, `treadle.tools`, `treadle.triggers` and `treadle.analytics` are
    stable in the same way.

Modules:
    client: The client of a Treadle server, for Python programs.
    testing: Runs one node type without a workflow, for the tests of a package.
"""

from typing import TYPE_CHECKING, Any

from engine.errors import NodeFailure
from engine.events import Usage
from engine.release import VERSION
from engine.sdk.analytics import AnalyticsEvent, AnalyticsEventType, AnalyticsSink
from engine.sdk.node import (
    ERROR_PORT,
    ConfigWarning,
    NodeConfig,
    NodeContext,
    NodeType,
    Outcome,
    Output,
    PortUndecided,
    ThreadMessage,
    WaitForAnswer,
    WaitForEvent,
    WaitForRun,
    WaitUntil,
)
from engine.sdk.resources import ChildRun, ChildRuns
from engine.sdk.tool import Tool, ToolFailed, ToolInfo
from engine.sdk.trigger import (
    ConfigConflict,
    PollContext,
    PolledItem,
    PollFailed,
    PollResult,
    TriggerConfig,
    TriggerKind,
)
from engine.states import LogLevel
from engine.types import JSON

if TYPE_CHECKING:
    from treadle.testing import try_node

__version__ = VERSION

__all__ = [
    "ERROR_PORT",
    "JSON",
    "AnalyticsEvent",
    "AnalyticsEventType",
    "AnalyticsSink",
    "ChildRun",
    "ChildRuns",
    "ConfigConflict",
    "ConfigWarning",
    "LogLevel",
    "NodeConfig",
    "NodeContext",
    "NodeFailure",
    "NodeType",
    "Outcome",
    "Output",
    "PollContext",
    "PollFailed",
    "PollResult",
    "PolledItem",
    "PortUndecided",
    "ThreadMessage",
    "Tool",
    "ToolFailed",
    "ToolInfo",
    "TriggerConfig",
    "TriggerKind",
    "Usage",
    "WaitForAnswer",
    "WaitForEvent",
    "WaitForRun",
    "WaitUntil",
    "try_node",
]


def __getattr__(name: str) -> Any:
    # treadle.testing imports LangGraph, which takes about a second; a node type does not need it.
    if name == "try_node":
        from treadle.testing import try_node

        return try_node
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
