import { buildHTTPExecutor } from '@graphql-tools/executor-http'
import { parse } from 'graphql'
import { checked, report, url } from './scenario.mjs'

const execute = buildHTTPExecutor({ endpoint: url })
const once = async (query, variables) => checked(await execute({ document: parse(query), variables }))

async function* subscribe(query, variables) {
  for await (const result of await execute({ document: parse(query), variables })) yield checked(result)
}

await report({ query: once, mutate: once, subscribe })
