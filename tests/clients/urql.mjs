import { readFileSync } from 'node:fs'
import { Client, fetchExchange } from '@urql/core'
import { cacheExchange } from '@urql/exchange-graphcache'
import { buildSchema, getIntrospectionQuery, graphqlSync } from 'graphql'
import { checked, iterate, report, url } from './scenario.mjs'

const schema = buildSchema(readFileSync(new URL('../../schema/schema.graphql', import.meta.url), 'utf8'))
const { data: introspection } = graphqlSync({ schema, source: getIntrospectionQuery() })
const cache = JSON.parse(readFileSync(new URL('../../schema/client_cache.json', import.meta.url), 'utf8'))
const keys = Object.fromEntries(cache.keyless.map((type) => [type, () => null]))
const client = new Client({
  url,
  exchanges: [cacheExchange({ schema: introspection, keys }), fetchExchange],
  fetchSubscriptions: true,
  preferGetMethod: process.argv[3] === 'get',
})

const result = ({ data, error }) => checked({ data, errors: error?.graphQLErrors.length ? error.graphQLErrors : error && [error] })
const query = async (text, variables) => result(await client.query(text, variables).toPromise())
const mutate = async (text, variables) => result(await client.mutation(text, variables).toPromise())

async function* subscribe(text, variables) {
  const source = client.subscription(text, variables)
  const ended = Symbol('ended')
  const updates = iterate((sink) => {
    const { unsubscribe } = source.subscribe((update) => {
      // urql repeats the last result with `hasNext: false` when the stream is complete.
      sink.next(update.hasNext === false ? ended : update)
    })
    return unsubscribe
  })
  for await (const update of updates) {
    if (update === ended) return
    if (update.data || update.error) yield result(update)
  }
}

await report({ query, mutate, subscribe })
