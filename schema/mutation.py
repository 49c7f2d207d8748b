"""The root of mutations, put together from one part a noun."""

import strawberry

from schema.run_derive import DeriveMutations
from schema.run_mutation import RunMutations
from schema.secret import SecretMutations
from schema.trial import TrialMutations
from schema.workflow_mutation import WorkflowMutations


@strawberry.type
class Mutation(WorkflowMutations, RunMutations, DeriveMutations, TrialMutations, SecretMutations):
    """Everything that can be changed. Domain failures are in each payload's `errors`."""
