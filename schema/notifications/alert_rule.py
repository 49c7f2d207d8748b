"""Alert rules as clients see them, and their root queries."""

from datetime import datetime

import strawberry

from engine.states import AlertMetric, AlertState
from persistence.alerts.rule import AlertRule
from persistence.workflows.projects import Project
from persistence.workflows.workflows import Workflow
from resolvers.notifications import alert_rules
from schema import enums as enums
from schema.info import Info
from schema.relay import Node
from schema.workflows.project import ProjectType
from schema.workflows.workflow import WorkflowType

ParentRule = strawberry.Parent[AlertRule]


@strawberry.type(
    name="AlertRule",
    description="A rule that workers evaluate every 15 seconds. Its changes of state are messages to the endpoints that "
    "receive ALERT. docs/alerts.md draws the states.",
)
class AlertRuleType(Node):
    name: str
    metric: AlertMetric
    threshold: float = strawberry.field(description="It fires above this value; NO_RUNS at 0 runs.")
    resolve_threshold: float = strawberry.field(description="A rule that fires is OK again at this value or below.")
    window_s: int = strawberry.field(description="The length of the period whose runs count, in seconds.")
    for_s: int = strawberry.field(description="How long a value must be beyond the threshold, in seconds.")
    min_runs: int = strawberry.field(description="With fewer runs in the window, a rate or a latency has no value.")
    tags: list[str] = strawberry.field(description="Only runs that have all of these tags. Empty: all runs.")
    enabled: bool = strawberry.field(description="A disabled rule is OK, and counts no runs.")
    state: AlertState
    state_since: datetime = strawberry.field(description="When the state began.")
    value: float | None = strawberry.field(
        description="The value of the last evaluation. Null: there was none, or too few runs have ended."
    )
    evaluated_at: datetime | None = strawberry.field(description="When it was evaluated last.")
    counting_since: datetime = strawberry.field(description="Runs that ended before do not count.")
    created_by: str
    created_at: datetime
    updated_at: datetime

    @classmethod
    def is_type_of(cls, value: object, _: object) -> bool:
        return isinstance(value, AlertRule)

    @strawberry.field(graphql_type=ProjectType)
    @staticmethod
    async def project(rule: ParentRule, info: Info) -> Project | None:
        return await info.context.loaders.project.load(rule.project_id)

    @strawberry.field(
        graphql_type=list[WorkflowType],
        description="Only runs of these workflows. Empty: those of all workflows, without child runs.",
    )
    @staticmethod
    async def workflows(rule: ParentRule, info: Info) -> list[Workflow]:
        found = await info.context.loaders.workflow.load_many(rule.workflow_ids)
        return [workflow for workflow in found if workflow is not None]


@strawberry.type
class AlertQueries:
    @strawberry.field(
        graphql_type=list[AlertRuleType],
        description="The alert rules of a project, newest first. Without `projectId`: of all your projects.",
    )
    @staticmethod
    async def alert_rules(info: Info, project_id: strawberry.ID | None = None) -> list[AlertRule]:
        return await alert_rules.rules_of(info.context, project_id)

    @strawberry.field(graphql_type=AlertRuleType | None)
    @staticmethod
    async def alert_rule(info: Info, id: strawberry.ID) -> AlertRule | None:
        return await info.context.loaders.alert_rule.load(id)
