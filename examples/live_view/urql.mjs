// A live view of a run with @urql/core, graphcache and graphql-ws: node urql.mjs RUN_ID
import { argv, env } from 'node:process'
import { Client, fetchExchange, gql, subscriptionExchange } from '@urql/core'
import { cacheExchange } from '@urql/exchange-graphcache'
import { createClient } from 'graphql-ws'
import WebSocket from 'ws'
import clientCache from '../../schema/client_cache.json' with { type: 'json' }
import { ANSWER, REST, UPDATES, VIEW, change, follow, show } from './documents.mjs'

const url = env.TREADLE_URL ?? 'http://127.0.0.1:8000/graphql'
const authorization = env.TREADLE_TOKEN && `Bearer ${env.TREADLE_TOKEN}`
const socket = createClient({
  url: url.replace(/^http/, 'ws'),
  webSocketImpl: WebSocket, // Browsers and Node.js 22 have their own.
  retryAttempts: Infinity,
  shouldRetry: () => true,
  connectionParams: authorization ? { authorization } : {},
})
const client = new Client({
  url,
  fetchOptions: { headers: authorization ? { authorization } : {} },
  exchanges: [
    cacheExchange({
      keys: Object.fromEntries(clientCache.keyless.map((type) => [type, () => null])),
      updates: { Subscription: { runUpdates } },
    }),
    fetchExchange,
    subscriptionExchange({
      forwardSubscription: ({ query, variables }) => ({
        subscribe: (sink) => ({ unsubscribe: socket.subscribe({ query, variables }, sink) }),
      }),
    }),
  ],
})

function runUpdates({ runUpdates: update }, _arguments, cache) {
  const [fragment, object] = change(update) ?? []
  if (fragment) cache.writeFragment(gql(fragment), object)
}

const variables = { id: argv[2] }
const run = {
  read: async () => (await client.query(REST, variables, { requestPolicy: 'network-only' }).toPromise()).data.run,
  answer: async (input) => (await client.mutation(ANSWER, { input }).toPromise()).data.resumeRun.errors,
}

client.query(VIEW, variables).subscribe(({ data, error }) => {
  if (error) throw error
  if (data.run) show(data.run)
})
client.subscription(UPDATES, variables).subscribe(({ data, error }) => {
  if (error) throw error
  const { status, run: snapshot } = data.runUpdates
  if (status ?? snapshot) follow(run, status ?? snapshot.status)
})
