// A live view of a run in the terminal: node live_view.ts RUN_ID
//
// It shows each node with its status and text, asks the questions of `human` nodes, and ends with the run.
// TREADLE_URL is the address of the API, TREADLE_TOKEN a token or an API key if the server has sign-in.
import { argv, env, exit, stdin, stdout } from 'node:process'
import { createInterface } from 'node:readline/promises'
import { RunView, TreadleClient, TreadleError } from '@treadle/client'

const runId = argv[2] ?? ''
const client = new TreadleClient({
  ...(env['TREADLE_URL'] ? { url: env['TREADLE_URL'] } : {}),
  ...(env['TREADLE_TOKEN'] ? { token: env['TREADLE_TOKEN'] } : {}),
})
const answered = new Set<string>()

/** Print the view. A terminal is cleared before. */
function show(view: RunView): void {
  if (stdout.isTTY) console.clear()
  console.log(`${view.status}  ${Math.round(view.progress * 100)}%`)
  for (const state of view.nodes.values()) {
    const note = state.error?.message ?? (view.texts.get(state.nodeId) || state.message) ?? ''
    console.log(`  ${state.label.padEnd(20)} ${state.status.padEnd(10)} ${note}`)
  }
  for (const line of view.log.slice(-3)) console.log(`  ${line.level}: ${line.message}`)
}

/** Ask the questions that the run waits for, and send the answers. */
async function answer(): Promise<void> {
  for (const wait of (await client.waits(runId)) ?? []) {
    if (wait.__typename !== 'InputWait' || answered.has(wait.waitId)) continue
    answered.add(wait.waitId)
    const input = createInterface({ input: stdin, output: stdout })
    const text = await input.question(`${wait.prompt} `)
    input.close()
    await client.resumeRun({ runId, waitId: wait.waitId, answer: parsed(text) })
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

async function main(): Promise<number> {
  const view = new RunView()
  for await (const update of client.watchRun(runId)) {
    view.apply(update)
    show(view)
    if ([...view.nodes.values()].some((state) => state.status === 'WAITING')) await answer()
  }
  const run = await client.run(runId)
  if (run === null) {
    console.log('The run was deleted.')
    return 1
  }
  console.log(run.error === null ? JSON.stringify(run.output, null, 2) : run.error.message)
  return run.status === 'COMPLETED' ? 0 : 1
}

try {
  exit(await main())
} catch (error) {
  if (!(error instanceof TreadleError)) throw error
  console.error(error.message)
  exit(1)
}
