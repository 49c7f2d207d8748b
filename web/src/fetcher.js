// Carries operations to the server: queries and mutations over HTTP, subscriptions over graphql-transport-ws, same origin.
// It remembers the last run that was started here, so that an example can say `"runId": "last"` and need no pasting.

import { createGraphiQLFetcher } from "@graphiql/toolkit";

const LAST_RUN = "treadle:lastRun";
const NO_RUN_YET = {
  errors: [{ message: '"last" stands for the run last started in this browser tab. Start one first, in the tab RunAdhoc.' }],
};

/** A fetcher for GraphiQL on `endpoint` (a URL). Headers of the headers tab also go along when a socket is opened. */
export function treadleFetcher(endpoint) {
  const send = createGraphiQLFetcher({ url: endpoint.href, subscriptionUrl: socketOf(endpoint), fetch: rememberingFetch });
  return (operation, options) => {
    if (operation.variables?.runId !== "last") return send(operation, options);
    const runId = sessionStorage.getItem(LAST_RUN);
    return runId ? send({ ...operation, variables: { ...operation.variables, runId } }, options) : NO_RUN_YET;
  };
}

function socketOf(endpoint) {
  const socket = new URL(endpoint);
  socket.protocol = endpoint.protocol === "https:" ? "wss:" : "ws:";
  return socket.href;
}

async function rememberingFetch(url, request) {
  const response = await fetch(url, request);
  if (response.headers.get("content-type")?.includes("json")) {
    // A copy is read, so that GraphiQL gets the response untouched, and says itself what is wrong with a broken one.
    response.clone().json().then(rememberRun, () => undefined);
  }
  return response;
}

function rememberRun(result) {
  for (const payload of Object.values(result?.data ?? {})) {
    const run = payload?.run;
    if (run?.id) sessionStorage.setItem(LAST_RUN, run.id);
  }
}
