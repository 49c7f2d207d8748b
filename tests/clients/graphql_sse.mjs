import { createClient } from 'graphql-sse'
import { checked, report, url } from './scenario.mjs'

const client = createClient({ url })

async function* results(query, variables) {
  for await (const result of client.iterate({ query, variables })) yield checked(result)
}

async function once(query, variables) {
  for await (const data of results(query, variables)) return data
}

await report({ query: once, mutate: once, subscribe: results })
