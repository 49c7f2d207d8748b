"""What resolvers of fields get beside their parent: `info.context` is ours, typed."""

import strawberry

from resolvers.context import Context

Info = strawberry.Info[Context, None]
