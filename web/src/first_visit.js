// What a first visit finds in the editors. GraphiQL 5.4 opens the first tab with its query and leaves its variables out, so
// that the first operation a newcomer runs would fail. Both are put where the editors look for what was there last.

import { StorageAPI } from "@graphiql/toolkit";

/** Fills the editors with the first of `tabs`, unless somebody was here before: then `storage` knows better. */
export function openFirstTab(storage, [{ query, variables }]) {
  const last = new StorageAPI(storage);
  if (last.get("query") !== null || last.get("tabState") !== null) return;
  last.set("query", query);
  last.set("variables", variables);
}
