import { GraphQLClient } from 'graphql-request'
import { report, url } from './scenario.mjs'

const client = new GraphQLClient(url)

async function once(query, variables) {
  try {
    return await client.request(query, variables)
  } catch (error) {
    throw { errors: error.response.errors }
  }
}

await report({ query: once, mutate: once })
