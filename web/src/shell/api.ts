/** The GraphQL client: a normalised cache, operations over HTTP, and subscriptions over one WebSocket. */
import { cacheExchange, type Cache } from "@urql/exchange-graphcache";
import { createClient as createSocket, type Sink } from "graphql-ws";
import { Client, fetchExchange, mapExchange, subscriptionExchange } from "urql";
import { TreadleClient, type TreadleError } from "@treadle/client";
import cacheFacts from "../../../schema/client_cache.json";
import { authorization, useSession } from "./session";

/** The address of the API: beside the page, also behind a proxy that adds a path prefix. */
export const endpoint = new URL("graphql", document.baseURI);

function socketAddress(): string {
  const address = new URL(endpoint);
  address.protocol = endpoint.protocol === "https:" ? "wss:" : "ws:";
  return address.href;
}

/** Read a list again where it is shown: an object was added to it or left it. */
function forget(cache: Cache, field: string): void {
  for (const { fieldName, fieldKey } of cache.inspectFields("Query")) {
    if (fieldName === field) cache.invalidate("Query", fieldKey);
  }
}

/** The lists that a mutation adds objects to, or removes them from. */
const CHANGED_LISTS: Readonly<Record<string, readonly string[]>> = {
  createWorkflow: ["workflows"],
  duplicateWorkflow: ["workflows"],
  deleteWorkflow: ["workflows", "triggers", "runs"],
  createTrigger: ["triggers"],
  deleteTrigger: ["triggers"],
  setSecret: ["secrets"],
  deleteSecret: ["secrets"],
  createRun: ["runs"],
  runWorkflow: ["runs"],
  runAdhoc: ["runs"],
  runTrigger: ["runs"],
  retryRun: ["runs"],
  forkRun: ["runs"],
};

function listChanges() {
  return Object.fromEntries(
    Object.entries(CHANGED_LISTS).map(([name, fields]) => [name, (_: unknown, __: unknown, cache: Cache) => fields.forEach((field) => forget(cache, field))]),
  );
}

const cache = cacheExchange({
  keys: Object.fromEntries(cacheFacts.keyless.map((type) => [type, () => null])),
  possibleTypes: cacheFacts.possibleTypes,
  updates: { Mutation: listChanges() },
});

const socket = createSocket({
  url: socketAddress(),
  lazy: true,
  retryAttempts: Number.POSITIVE_INFINITY,
  shouldRetry: () => true,
  connectionParams: () => authorization(),
});

export const api = new Client({
  url: endpoint.href,
  preferGetMethod: false,
  requestPolicy: "cache-and-network",
  fetchOptions: () => ({ headers: authorization() }),
  exchanges: [
    mapExchange({
      onError: (error) => {
        if (error.graphQLErrors.some((one) => one.extensions["code"] === "UNAUTHENTICATED")) void useSession.getState().refused();
      },
    }),
    cache,
    fetchExchange,
    subscriptionExchange({
      forwardSubscription: ({ query, variables }) => ({
        subscribe: (sink) => ({
          unsubscribe: socket.subscribe({ query: query ?? "", variables: (variables ?? {}) as Record<string, unknown> }, sink as Sink),
        }),
      }),
    }),
  ],
});

/** The project's client, for operations that survive lost connections. */
export function resilientClient(onRetry?: (error: TreadleError) => void): TreadleClient {
  const { token } = useSession.getState();
  return new TreadleClient({
    url: endpoint.href,
    ...(token === undefined ? {} : { token }),
    ...(onRetry === undefined ? {} : { onRetry }),
  });
}
