"""Register the enums of the domain with Strawberry, under their own names.

Importing this module is enough.
"""

import strawberry

from engine import states
from engine.expressions import evaluator
from engine.spec import diff
from engine.triggers import webhook
from persistence import problems
from persistence.bulk_jobs import job
from persistence.caller import Role as Role_
from persistence.maintenance import queue_facts
from persistence.runs import run_order
from persistence.statistics import reading

RunStatus = strawberry.enum(
    states.RunStatus,
    description="""PENDING (created, not started) → QUEUED → RUNNING → COMPLETED | FAILED | CANCELLED.
RUNNING → PAUSING → PAUSED → QUEUED; RUNNING → WAITING (a timer, a person, a child run or a retry) → QUEUED; any active state → \
CANCELLING → CANCELLED.
PAUSING and CANCELLING: the change is requested, but not complete. Every active state has a deadline. Terminal states \
never change.""",
)
NodeStatus = strawberry.enum(states.NodeStatus)
EdgeStatus = strawberry.enum(
    states.EdgeStatus,
    description="""PENDING: the source of the edge has not run yet, or runs again. TAKEN: the source left by the edge.
SKIPPED: the source left by other edges, was skipped, or has ended with its run.""",
)
OnBusy = strawberry.enum(
    states.OnLimit,
    name="OnBusy",
    description="""The effect on a new run of a thread while another run of it is active. QUEUE: it waits.
REJECT: it is refused. CANCEL_OLDEST: the other run is cancelled, and the new one starts when its code has stopped.""",
)
RunAction = strawberry.enum(states.RunAction)
RunSource = strawberry.enum(states.RunSource)
BulkAction = strawberry.enum(job.BulkAction)
Bucket = strawberry.enum(reading.Bucket)
RunOrderField = strawberry.enum(run_order.RunOrderField)
OrderDirection = strawberry.enum(run_order.OrderDirection)
RunMode = strawberry.enum(
    states.RunMode,
    description="""ASYNC: the mutation returns when the run is accepted; follow it by subscription.
SYNC: it returns when the run is terminal, PAUSED or waits for the answer of a person, or after `timeoutMs`. It waits \
through timers, retries and child runs.""",
)
Role = strawberry.enum(
    Role_,
    name="Role",
    description="""What a caller may do in a project. Each role includes the roles before it.
VIEWER: read. RUNNER: create and control runs. EDITOR: change workflows and secrets. ADMIN: everything.""",
)
QueueReasonCode = strawberry.enum(
    queue_facts.QueueReasonCode,
    description="""NO_WORKER: no worker is alive. CONCURRENCY_LIMIT: the limit of the workflow is reached, or another \
run of the thread is executed. PROJECT_LIMIT: TREADLE_PROJECT_LIMIT is reached.
BEHIND_OTHERS: other runs start first, and the workers are busy. NEXT: it is the first in its queue.""",
)
TriggerEventStatus = strawberry.enum(
    states.TriggerEventStatus,
    description="""FIRED: a run was accepted. DUPLICATE: the trigger has fired for this key before. SKIPPED: the rules of \
the trigger, or a limit, allowed no run.
FAILED: no version was published, or the inputs were invalid. TEST: it was a test.""",
)
EndpointEvent = strawberry.enum(
    states.EndpointEvent,
    description="""An event of a run or a trigger. RUN_WAITING: a run waits for a timer, a person, an event or a child run.
TRIGGER_DISABLED: a trigger was disabled, after failures or by a person.""",
)
AlertMetric = strawberry.enum(
    states.AlertMetric, description="The value that an alert rule compares with its threshold."
)
AlertState = strawberry.enum(states.AlertState, description="The state of an alert rule.")
DeliveryStatus = strawberry.enum(
    states.DeliveryStatus,
    description="""PENDING: it waits for its next attempt. DELIVERED: the endpoint has answered with a status 2xx.
FAILED: all attempts have failed, or the endpoint is disabled; it can be resent.""",
)
SignatureVerdict = strawberry.enum(
    webhook.SignatureVerdict,
    description="""VALID: the signature matches. UNSIGNED: the trigger requires none. MISSING, INVALID: no run was started.
EXPIRED: it matches, but its time is outside of the replay window.""",
)
SignalStatus = strawberry.enum(
    states.SignalStatus,
    description="""KEPT: no run waits for the event yet. DELIVERED: it has ended the wait of a run. DUPLICATE: the callback \
address was used before, with the same payload.
REFUSED: it came too late, or does not match the schema, or its address is forged or was used before. EXPIRED: no run \
has waited for it in time.""",
)
VersionStatus = strawberry.enum(states.VersionStatus)
DiffChange = strawberry.enum(diff.DiffChange, description="What happened to a part of a spec.")
LogLevel = strawberry.enum(states.LogLevel)
Severity = strawberry.enum(states.Severity)
RunEventType = strawberry.enum(
    states.EventType,
    name="RunEventType",
    description="""RUN_STATUS, NODE_STATE, CHECKPOINT and LOG are numbered events, which `events` lists. EDGE_STATE, \
OUTPUT_DELTA and PROGRESS are sent live only, by `runUpdates`.""",
)
ProblemCode = strawberry.enum(problems.ProblemCode)
ExpressionKind = strawberry.enum(
    evaluator.ExpressionKind,
    description="""How a text is evaluated: as the field of a spec that it comes from.
TEMPLATE: text with `{{ … }}` and `{% … %}`, such as a prompt; a single `{{ … }}` keeps its type. EXPRESSION: \
`a.b + 1`; braces in it are brackets. CONDITION: an expression whose value is true or false, as on an edge.""",
)
