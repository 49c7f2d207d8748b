import { readFileSync } from 'node:fs'
import { ApolloClient, CombinedGraphQLErrors, HttpLink, InMemoryCache, gql } from '@apollo/client'
import { iterate, report, url } from './scenario.mjs'

const cacheFile = new URL('../../schema/client_cache.json', import.meta.url)
const { possibleTypes } = JSON.parse(readFileSync(cacheFile, 'utf8'))
const client = new ApolloClient({ link: new HttpLink({ uri: url }), cache: new InMemoryCache({ possibleTypes }) })

async function once(promise) {
  try {
    return (await promise).data
  } catch (error) {
    throw CombinedGraphQLErrors.is(error) ? { errors: error.errors } : error
  }
}

const query = (text, variables) => once(client.query({ query: gql(text), variables }))
const mutate = (text, variables) => once(client.mutate({ mutation: gql(text), variables }))

async function* subscribe(text, variables) {
  const updates = iterate((sink) => {
    const subscription = client.subscribe({ query: gql(text), variables }).subscribe(sink)
    return () => subscription.unsubscribe()
  })
  for await (const { data, error } of updates) {
    if (error) throw error
    yield data
  }
}

await report({ query, mutate, subscribe })
