"""The interface of everything that has a global id."""

import strawberry


@strawberry.interface(
    description="Anything with a global id. Ids are TypeIDs (`wf_01h4…`, `run_01h4…`): the prefix names the type, "
    "the rest sorts by creation time."
)
class Node:
    id: strawberry.ID
