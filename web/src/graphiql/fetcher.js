// Sends operations to the server: queries and mutations over HTTP, subscriptions over graphql-transport-ws, same origin.
// It stores the id of the last run that this tab started, so that examples can use `"runId": "last"`.

import { createGraphiQLFetcher } from "@graphiql/toolkit";

const LAST_RUN = "treadle:lastRun";
const NO_RUN_YET = {
  errors: [{ message: '"last" means the last run that this browser tab started. Start one first, in the tab RunAdhoc.' }],
};

/** Return a fetcher for GraphiQL on `endpoint` (a URL). Headers of the headers tab are also sent when a socket opens. */
export function treadleFetcher(endpoint) {
  const send = createGraphiQLFetcher({ url: endpoint.href, subscriptionUrl: socketOf(endpoint), fetch: recordingFetch });
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

async function recordingFetch(url, request) {
  const response = await fetch(url, request);
  if (response.headers.get("content-type")?.includes("json")) {
    // Read a copy, so that GraphiQL receives the response unread and reports errors in it by itself.
    response.clone().json().then(recordRun, () => undefined);
  }
  return response;
}

function recordRun(result) {
  for (const payload of Object.values(result?.data ?? {})) {
    const run = payload?.run;
    if (run?.id) sessionStorage.setItem(LAST_RUN, run.id);
  }
}
