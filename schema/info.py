"""The `Info` argument of Strawberry resolvers, typed with our `Context`."""

import strawberry

from resolvers.context import Context

Info = strawberry.Info[Context, None]
