"""Register the enums of the domain with Strawberry, under their own names.

Importing this module is enough.
"""

import strawberry

from engine import states
from persistence import problems

RunStatus = strawberry.enum(
    states.RunStatus,
    description="""PENDING (created, not started) → QUEUED → RUNNING → COMPLETED | FAILED | CANCELLED.
RUNNING → PAUSING → PAUSED → QUEUED; RUNNING → WAITING (a timer or a person) → QUEUED; any active state → CANCELLING → \
CANCELLED.
PAUSING and CANCELLING: the change is requested, but not complete. Every active state has a deadline. Terminal states \
never change.""",
)
NodeStatus = strawberry.enum(states.NodeStatus)
RunAction = strawberry.enum(states.RunAction)
RunSource = strawberry.enum(states.RunSource)
RunMode = strawberry.enum(
    states.RunMode,
    description="""ASYNC: the mutation returns when the run is accepted; follow it by subscription.
SYNC: it returns when the run is terminal, PAUSED or waits for the answer of a person, or after `timeoutMs`. It waits \
through timers, retries and child runs.""",
)
VersionStatus = strawberry.enum(states.VersionStatus)
LogLevel = strawberry.enum(states.LogLevel)
Severity = strawberry.enum(states.Severity)
RunEventType = strawberry.enum(states.EventType, name="RunEventType")
ProblemCode = strawberry.enum(problems.ProblemCode)
