// The Relay store with artifacts of relay-compiler. Queries and mutations go by fetch, subscriptions
// by graphql-ws, as Relay's documentation shows.
import { createClient } from 'graphql-ws'
import relay from 'relay-runtime'
import WebSocket from 'ws'
import { iterate, socketUrl, url } from './scenario.mjs'

const { Environment, Network, Observable, RecordSource, Store } = relay
const { commitMutation, createOperationDescriptor, fetchQuery, getRequest, requestSubscription } = relay
const artifact = async (name) => getRequest((await import(`${process.argv[3]}/${name}.graphql.js`)).default)
const socket = createClient({ url: socketUrl, webSocketImpl: WebSocket })

const send = async (query, variables) => {
  const headers = { 'Content-Type': 'application/json', Accept: 'application/graphql-response+json; charset=utf-8, application/json; charset=utf-8' }
  const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify({ query, variables }) })
  return response.json()
}
const subscribe = ({ text, name }, variables) =>
  Observable.create((sink) => socket.subscribe({ query: text, operationName: name, variables }, sink))
const environment = new Environment({
  network: Network.create(({ text }, variables) => send(text, variables), subscribe),
  store: new Store(new RecordSource()),
})

const query = async (name, variables) => fetchQuery(environment, await artifact(name), variables).toPromise()
const mutate = async (name, variables) => {
  const mutation = await artifact(name)
  return new Promise((onCompleted, onError) => commitMutation(environment, { mutation, variables, onCompleted, onError }))
}

const { viewer } = await query('operationsViewerQuery', {})
const { createWorkflow } = await mutate('operationsCreateMutation', { name: 'by a client' })
const { id, name } = createWorkflow.workflow

// The store keeps a workflow once, by its id: `node` and `workflows` show what the mutation returned.
const nodeQuery = createOperationDescriptor(await artifact('operationsNodeQuery'), { id })
environment.retain(nodeQuery)
await query('operationsNodeQuery', { id })
await query('operationsListQuery', { count: 10 })
const shown = () => environment.lookup(nodeQuery.fragment).data.node.name
const renamed = [shown()]
await mutate('operationsRenameMutation', { id, name: 'renamed' })
renamed.push(shown())

const { runWorkflow } = await mutate('operationsRunMutation', { id })
const subscription = await artifact('operationsEventsSubscription')
const updates = iterate((sink) => {
  const variables = { id: runWorkflow.run.id }
  const config = { subscription, variables, onNext: sink.next, onError: sink.error, onCompleted: sink.complete }
  const { dispose } = requestSubscription(environment, config)
  return dispose
})
const events = []
for await (const { runEvents } of updates) {
  events.push(runEvents.seq)
  if (events.length === 1) await mutate('operationsCancelMutation', { id: runWorkflow.run.id })
}

const refused = { ...(await artifact('operationsViewerQuery')) }
refused.params = { ...refused.params, cacheID: 'invalid', text: '{ nothing }' }
const error = await fetchQuery(environment, refused, {}).toPromise().then(() => null, ({ message }) => message)
process.stdout.write(JSON.stringify({ subject: viewer.subject, name, renamed, events, error }))
process.exit(0)
