// The audits of GraphQL over HTTP by the npm package graphql-http. Writes the result of each.
import { auditServer } from 'graphql-http'

const results = await auditServer({ url: process.argv[2] })
const report = results.map(({ id, name, status, reason }) => ({ id, name, status, reason }))
process.stdout.write(JSON.stringify(report))
