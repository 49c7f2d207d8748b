import { createClient } from 'graphql-ws'
import WebSocket from 'ws'
import { checked, iterate, report, socketUrl } from './scenario.mjs'

const client = createClient({ url: socketUrl, webSocketImpl: WebSocket, connectionParams: null })
const failed = (error) => (Array.isArray(error) ? { errors: error } : error)

async function* results(query, variables) {
  try {
    for await (const result of client.iterate({ query, variables })) yield checked(result)
  } catch (error) {
    throw failed(error)
  }
}

async function once(query, variables) {
  for await (const data of results(query, variables)) return data
}

await report({ query: once, mutate: once, subscribe: results })
