"""The root of mutations, put together from one part a noun."""

import strawberry

from schema.runs.mutations import DeriveMutations, RunMutations
from schema.runs.node_test import TrialMutations
from schema.secret import SecretMutations
from schema.workflows.mutations import WorkflowMutations


@strawberry.type
class Mutation(WorkflowMutations, RunMutations, DeriveMutations, TrialMutations, SecretMutations):
    """Everything that can be changed. Domain failures are in each payload's `errors`."""
