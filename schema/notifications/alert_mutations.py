"""Root mutations of alert rules, their inputs and payloads."""

from typing import Any

import strawberry

from engine.states import AlertMetric
from resolvers.notifications import alert_rules
from schema.info import Info
from schema.notifications.alert_rule import AlertRuleType
from schema.payload import KeyedInput, Payload, keyed_mutation, payload
from schema.workflows.workflow import DeletePayload

THRESHOLD = (
    "It fires above this value: a part of the runs from 0 to 1 (FAILURE_RATE), milliseconds (LATENCY_P95), USD (COST), "
    "seconds (QUEUE_AGE). Not with NO_RUNS."
)
RESOLVE = "A rule that fires is OK again at this value or below. Default: `threshold`."
WINDOW = "The length of the period whose runs count, in seconds: 60 to 604,800. QUEUE_AGE ignores it."
FOR = "How long a value must be beyond the threshold, in seconds: 0 to 86,400."
MIN_RUNS = "With fewer runs in the window, a rate or a latency has no value; at least 1."
WORKFLOWS = "Only runs of these workflows. Empty: those of all workflows, without child runs."
TAGS = "Only runs that have all of these tags. Empty: all runs."
_FIXED = ("name", "metric", "threshold", "window_s", "for_s", "min_runs", "enabled")


@strawberry.input
class CreateAlertRuleInput(KeyedInput):
    project_id: strawberry.ID | None = strawberry.field(
        default=None, description="Default: your only project, or `default`."
    )
    name: str
    metric: AlertMetric
    threshold: float | None = strawberry.field(default=None, description=THRESHOLD)
    resolve_threshold: float | None = strawberry.field(default=None, description=RESOLVE)
    window_s: int | None = strawberry.field(default=300, description=WINDOW)
    for_s: int | None = strawberry.field(default=0, description=FOR)
    min_runs: int | None = strawberry.field(default=1, description=MIN_RUNS)
    workflow_ids: list[strawberry.ID] | None = strawberry.field(default=None, description=WORKFLOWS)
    tags: list[str] | None = strawberry.field(default=None, description=TAGS)
    enabled: bool | None = True

    @property
    def values(self) -> dict[str, Any]:
        """The columns of the new rule."""
        return {
            **{name: getattr(self, name) for name in ("name", "metric", "threshold", "resolve_threshold")},
            "window_s": 300 if self.window_s is None else self.window_s,
            "for_s": self.for_s or 0,
            "min_runs": 1 if self.min_runs is None else self.min_runs,
            "workflow_ids": _distinct(self.workflow_ids),
            "tags": _distinct(self.tags),
            "enabled": self.enabled is not False,
        }


@strawberry.input
class UpdateAlertRuleInput(KeyedInput):
    """An omitted field stays unchanged, as does one that is null, except for `resolveThreshold` and the lists."""

    id: strawberry.ID
    name: str | None = None
    metric: AlertMetric | None = None
    threshold: float | None = strawberry.field(default=None, description=THRESHOLD)
    resolve_threshold: float | None = strawberry.field(default=strawberry.UNSET, description=RESOLVE)
    window_s: int | None = strawberry.field(default=None, description=WINDOW)
    for_s: int | None = strawberry.field(default=None, description=FOR)
    min_runs: int | None = strawberry.field(default=None, description=MIN_RUNS)
    workflow_ids: list[strawberry.ID] | None = strawberry.field(default=strawberry.UNSET, description=WORKFLOWS)
    tags: list[str] | None = strawberry.field(default=strawberry.UNSET, description=TAGS)
    enabled: bool | None = None

    @property
    def changes(self) -> dict[str, Any]:
        """The columns that the client has set."""
        values = {name: getattr(self, name) for name in _FIXED if getattr(self, name) is not None}
        if self.resolve_threshold is not strawberry.UNSET:
            values["resolve_threshold"] = self.resolve_threshold
        for name in ("workflow_ids", "tags"):
            if getattr(self, name) is not strawberry.UNSET:
                values[name] = _distinct(getattr(self, name))
        return values


def _distinct(values: Any) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values or ()))


@strawberry.input
class DeleteAlertRuleInput(KeyedInput):
    id: strawberry.ID


@strawberry.type
class AlertRulePayload(Payload):
    alert_rule: AlertRuleType | None = None


@strawberry.type
class AlertMutations:
    @keyed_mutation
    @staticmethod
    async def create_alert_rule(info: Info, input: CreateAlertRuleInput) -> AlertRulePayload:
        """Creates an alert rule. It counts the runs that end from now on."""
        created = await alert_rules.create_rule(info.context, input.project_id, input.values)
        return payload(AlertRulePayload, alert_rule=created)

    @keyed_mutation
    @staticmethod
    async def update_alert_rule(info: Info, input: UpdateAlertRuleInput) -> AlertRulePayload:
        """Changes an alert rule. Another window or choice of runs begins its counters anew."""
        changed = await alert_rules.update_rule(info.context, input.id, input.changes)
        return payload(AlertRulePayload, alert_rule=changed)

    @keyed_mutation
    @staticmethod
    async def delete_alert_rule(info: Info, input: DeleteAlertRuleInput) -> DeletePayload:
        """Deletes an alert rule. One that fires is reported as resolved."""
        return payload(DeletePayload, deleted_id=await alert_rules.delete_rule(info.context, input.id))
