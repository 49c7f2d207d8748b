// Lints schema/schema.graphql, and compares it with schema/released.graphql. Writes a JSON document:
// `problems` of the linter, and the `breaking` changes with their paths.
import { readFileSync } from 'node:fs'
import { CriticalityLevel, diff } from '@graphql-inspector/core'
import { ESLint } from 'eslint'
import { buildSchema } from 'graphql'

const folder = new URL('../../schema/', import.meta.url)
const text = readFileSync(new URL('schema.graphql', folder), 'utf8')
const released = buildSchema(readFileSync(new URL('released.graphql', folder), 'utf8'))

const linter = new ESLint({ cwd: new URL('.', import.meta.url).pathname })
const [{ messages }] = await linter.lintText(text, { filePath: 'schema.graphql' })
const problems = messages.map(({ line, ruleId, message }) => `schema/schema.graphql:${line}: ${message} (${ruleId})`)

const changes = await diff(released, buildSchema(text))
const breaking = changes
  .filter(({ criticality }) => criticality.level === CriticalityLevel.Breaking)
  .map(({ path, message }) => ({ path: path ?? '', message }))

process.stdout.write(JSON.stringify({ problems, breaking }))
