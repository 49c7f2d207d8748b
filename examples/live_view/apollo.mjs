// A live view of a run with @apollo/client over HTTP alone: node apollo.mjs RUN_ID
import { argv, env } from 'node:process'
import { ApolloClient, CombinedGraphQLErrors, HttpLink, InMemoryCache, gql } from '@apollo/client'
import clientCache from '../../schema/client_cache.json' with { type: 'json' }
import { ANSWER, REST, UPDATES, VIEW, change, follow, show } from './documents.mjs'

const PAUSE_MS = 1000

const client = new ApolloClient({
  link: new HttpLink({
    uri: env.TREADLE_URL ?? 'http://127.0.0.1:8000/graphql',
    headers: env.TREADLE_TOKEN ? { authorization: `Bearer ${env.TREADLE_TOKEN}` } : {},
  }),
  cache: new InMemoryCache({ possibleTypes: clientCache.possibleTypes }),
})

const [view, rest, updates, answer] = [VIEW, REST, UPDATES, ANSWER].map((text) => gql(text))
const variables = { id: argv[2] }
const run = {
  read: async () => (await client.query({ query: rest, variables, fetchPolicy: 'network-only' })).data.run,
  answer: async (input) => (await client.mutate({ mutation: answer, variables: { input } })).data.resumeRun.errors,
}

/** Subscribe, and again after a lost connection: the snapshot brings the cache up to date. */
function subscribe() {
  const again = () => setTimeout(subscribe, PAUSE_MS)
  client.subscribe({ query: updates, variables }).subscribe({
    next: ({ data, error }) => {
      if (CombinedGraphQLErrors.is(error)) throw error // The server has refused the subscription.
      if (error) return again()
      const { status, run: snapshot } = data.runUpdates
      const [fragment, object] = change(data.runUpdates) ?? []
      if (fragment) client.cache.writeFragment({ id: client.cache.identify(object), fragment: gql(fragment), data: object })
      if (status ?? snapshot) follow(run, status ?? snapshot.status)
    },
    error: again,
  })
}

client.watchQuery({ query: view, variables }).subscribe(({ data, error }) => {
  if (error) throw error
  if (data?.run?.nodeStates) show(data.run)
})
subscribe()
