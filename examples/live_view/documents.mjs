// What the live views with a normalised cache share: their operations, and how they print.
import { stdin, stdout } from 'node:process'
import { createInterface } from 'node:readline/promises'

const NODE = 'fragment Node on NodeState { id nodeId label status message error { message } }'

const ENDED = ['COMPLETED', 'FAILED', 'CANCELLED']

/** The view, which is read from the cache. */
export const VIEW = `query View($id: ID!) { run(id: $id) { id status progress nodeStates { ...Node } } } ${NODE}`

/** What no update has. It is read from the server when the run waits, and when it has ended. */
export const REST = `query Rest($id: ID!) {
  run(id: $id) {
    id status progress output error { message } nodeStates { ...Node }
    waitingFor { __typename ... on InputWait { waitId prompt } }
  }
} ${NODE}`

/** The updates, which change the cache. Without `after`, each connection begins with a snapshot. */
export const UPDATES = `subscription Updates($id: ID!) {
  runUpdates(runId: $id, types: [NODE_STATE, PROGRESS, RUN_STATUS]) {
    __typename
    ... on RunSnapshot { run { id status progress nodeStates { ...Node } } }
    ... on NodeStateChanged { runId nodeState { ...Node } }
    ... on RunProgressed { runId progress }
    ... on RunStatusChanged { runId status }
  }
} ${NODE}`

export const ANSWER = `mutation Answer($input: ResumeRunInput!) {
  resumeRun(input: $input) { run { id status } errors { detail } }
}`

/** The fragment, the object of the cache, and its new fields, for an update that has no object of its own. */
export function change(update) {
  const { __typename, runId, nodeState, progress, status } = update
  switch (__typename) {
    case 'NodeStateChanged': // Its id has the number of the event: the object of the cache has none.
      return [NODE, { ...nodeState, id: `${runId}/${nodeState.nodeId}` }]
    case 'RunProgressed':
      return ['fragment Progress on Run { id progress }', { __typename: 'Run', id: runId, progress }]
    case 'RunStatusChanged':
      return ['fragment Status on Run { id status }', { __typename: 'Run', id: runId, status }]
  }
}

/** Print the view. A terminal is cleared before. */
export function show(run) {
  if (stdout.isTTY) console.clear()
  console.log(`${run.status}  ${Math.round(run.progress * 100)}%`)
  for (const { label, status, error, message } of run.nodeStates) {
    console.log(`  ${label.padEnd(20)} ${status.padEnd(10)} ${error?.message ?? message ?? ''}`)
  }
}

/**
 * Ask the question that a run waits for, and print the result of one that has ended.
 *
 * `client` has `read()`, which reads the run from the server, and `answer(input)`.
 */
export async function follow(client, status) {
  if (status === 'WAITING') await answer(client, await client.read())
  if (!ENDED.includes(status)) return
  let run = await client.read()
  while (!ENDED.includes(run.status)) run = await client.read() // It shared a request from before the end.
  show(run)
  console.log(run.error ? run.error.message : JSON.stringify(run.output, null, 2))
  process.exit(run.status === 'COMPLETED' ? 0 : 1)
}

const asked = new Set()

async function answer(client, run) {
  const { __typename, waitId, prompt } = run.waitingFor ?? {}
  if (__typename !== 'InputWait' || asked.has(waitId)) return
  asked.add(waitId)
  const errors = await client.answer({ runId: run.id, waitId, answer: await ask(prompt) })
  for (const { detail } of errors) console.error(detail)
}

async function ask(prompt) {
  const input = createInterface({ input: stdin, output: stdout })
  const text = await input.question(`${prompt} `)
  input.close()
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}
