// The page: GraphiQL 5 with history, documentation and explorer, on the endpoint that served it.

import "graphiql/setup-workers/vite";
import "graphiql/style.css";
import "@graphiql/plugin-explorer/style.css";
import "./page.css";

import { explorerPlugin } from "@graphiql/plugin-explorer";
import { createLocalStorage } from "@graphiql/toolkit";
import { GraphiQL, HISTORY_PLUGIN } from "graphiql";
import { createRoot } from "react-dom/client";

import { exampleTabs, welcome } from "./examples.js";
import { treadleFetcher } from "./fetcher.js";
import { openFirstTab } from "./first_visit.js";
import { currentSession } from "./session.js";

const session = await currentSession();
// A separate namespace, because another GraphiQL on the same host and port must not share its tabs.
const storage = createLocalStorage({ namespace: "treadle" });
openFirstTab(storage, exampleTabs);
// JSON Schemas for the variables editor; without them it marks values of JSON and DateTime as errors.
const scalars = { JSON: {}, DateTime: { type: "string", format: "date-time" } };
const plugins = [HISTORY_PLUGIN, explorerPlugin({ showAttribution: false })];

createRoot(document.getElementById("page")).render(
  <GraphiQL
    fetcher={treadleFetcher(new URL(location.pathname, location.origin))}
    storage={storage}
    plugins={plugins}
    defaultTabs={exampleTabs}
    defaultQuery={welcome}
    defaultEditorToolsVisibility="variables"
    shouldPersistHeaders={false}
    customScalarSchemas={scalars}
    inputValueDeprecation
    schemaDescription
  >
    <GraphiQL.Logo>
      Treadle
      {session.signOutUrl && (
        <form className="sign-out" method="post" action={session.signOutUrl}>
          {session.subject} <button type="submit">Sign out</button>
        </form>
      )}
    </GraphiQL.Logo>
  </GraphiQL>,
);
