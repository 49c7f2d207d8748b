// What every client does against the server: a query, a mutation, a subscription, and an error.
// A client is { query(text, variables), subscribe?(text, variables) -> async iterable } whose
// results are `data`; a failure is thrown as GraphQL errors: { errors: [...] }.

export const VIEWER = 'query Viewer { viewer { subject } }'
export const CREATE = `mutation Create($name: String!) {
  createWorkflow(input: {name: $name}) { workflow { id name } errors { code detail } } }`
export const RUN = 'mutation Run($id: ID!) { runWorkflow(input: {workflowId: $id}) { run { id } errors { code detail } } }'
export const CANCEL = 'mutation Cancel($id: ID!) { cancelRun(input: {runId: $id}) { errors { code detail } } }'
export const EVENTS = 'subscription Events($id: ID!) { runEvents(runId: $id) { __typename seq } }'
export const INVALID = 'query Invalid { nothing }'

export async function play(client) {
  const { viewer } = await client.query(VIEWER, {})
  const { createWorkflow } = await client.mutate(CREATE, { name: 'by a client' })
  const events = client.subscribe ? await follow(client, createWorkflow.workflow.id) : null
  return { subject: viewer.subject, name: createWorkflow.workflow.name, events, error: await refused(client) }
}

// Cancels the run at its first event. The subscription ends by itself with the run.
async function follow(client, workflowId) {
  const { runWorkflow } = await client.mutate(RUN, { id: workflowId })
  const events = []
  for await (const { runEvents } of client.subscribe(EVENTS, { id: runWorkflow.run.id })) {
    events.push(runEvents.seq)
    if (events.length === 1) await client.mutate(CANCEL, { id: runWorkflow.run.id })
  }
  return events
}

async function refused(client) {
  try {
    await client.query(INVALID, {})
  } catch (error) {
    const [first] = error.errors
    return { message: first.message, code: first.extensions.code }
  }
  throw new Error('the invalid query was accepted')
}

export function checked({ data, errors }) {
  if (errors?.length) throw { errors }
  return data
}

// Turns an observable-like source (`start` gets a sink and returns a function that stops it) into
// an async iterable.
export async function* iterate(start) {
  const queue = []
  let wake = () => {}
  const push = (item) => { queue.push(item); wake() }
  const stop = start({
    next: (value) => push({ value }),
    error: (error) => push({ error }),
    complete: () => push({ done: true }),
  })
  try {
    for (;;) {
      while (!queue.length) await new Promise((resolve) => { wake = resolve })
      const { value, error, done } = queue.shift()
      if (error) throw error
      if (done) return
      yield value
    }
  } finally {
    stop()
  }
}

export async function report(client) {
  process.stdout.write(JSON.stringify(await play(client)))
  process.exit(0)
}

export const url = process.argv[2]
export const socketUrl = url?.replace('http', 'ws')
