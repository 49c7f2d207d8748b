// The content of the editors at a first visit. GraphiQL 5.4 opens the first tab with its query but without its variables,
// so that the first operation of a new user would fail. Both are stored where the editors look for their last content.

import { StorageAPI } from "@graphiql/toolkit";

/** Store the first of `tabs` as the content of the editors, unless `storage` has content of an earlier visit. */
export function openFirstTab(storage, [{ query, variables }]) {
  const last = new StorageAPI(storage);
  if (last.get("query") !== null || last.get("tabState") !== null) return;
  last.set("query", query);
  last.set("variables", variables);
}
