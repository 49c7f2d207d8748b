// Runs operations of each kind against a server: node operations.mjs URL. Prints what they returned.
import {
  ConflictProblem, InvalidStateProblem, NotFoundProblem, RunFailed, TreadleClient, ValidationProblem, succeeded,
} from '@treadle/client'

const linear = { nodes: [{ id: 'a', type: 'transform', config: { output: '{{ input.x }}' } }], edges: [] }
const failing = { nodes: [{ id: 'a', type: 'code', config: { code: 'def process():\n    1 / 0' } }] }
const client = new TreadleClient({ url: process.argv[2] })

async function problem(kind, promise, field) {
  try {
    await promise
  } catch (error) {
    if (error instanceof kind && error.name === kind.name) return [error.code, field(error)]
    throw error
  }
  throw new Error(`no ${kind.name}`)
}

const workflow = await client.createWorkflow({ name: 'By the client', spec: linear })
const draft = await client.saveDraft({ workflowId: workflow.id, spec: linear, expectedRevision: workflow.draft.revision })
const version = await client.createVersion({ workflowId: workflow.id, publish: true })
const run = await client.runAndWait({ workflowId: workflow.id, inputs: { x: 5 }, options: { tags: ['client'] } })
const failed = await client.runAndWait({ spec: failing })
const missing = 'wf_01h455vb4pex5vsknk084sn02q'
const keyed = await Promise.all([1, 2, 3].map(() => client.runAdhoc({ spec: linear, idempotencyKey: 'one key' })))
console.log(
  JSON.stringify({
    subject: (await client.viewer()).subject,
    run: [run.status, run.output, run.version.number === version.number, succeeded(run) === run],
    runs: (await client.runs({ filter: { workflowId: workflow.id } })).nodes.map((one) => one.id === run.id),
    sameRun: new Set(keyed.map((one) => one.id)).size,
    absent: await client.run('run_01h455vb4pex5vsknk084sn02q'),
    conflict: await problem(
      ConflictProblem,
      client.saveDraft({ workflowId: workflow.id, spec: failing, expectedRevision: draft.revision + 5 }),
      (error) => error.draft.revision === error.currentRevision,
    ),
    state: await problem(InvalidStateProblem, client.cancelRun({ runId: run.id }), (error) => error.runStatus),
    missing: await problem(NotFoundProblem, client.runWorkflow({ workflowId: missing }), (error) => error.resourceId === missing),
    invalid: await problem(ValidationProblem, client.runAdhoc({ spec: { nodes: [{ id: 'a', type: 'nothing_like_it' }] } }), (error) => error.errors[0].field),
    failed: await problem(RunFailed, Promise.resolve().then(() => succeeded(failed)), (error) => error.run.error.code.slice(0, 4)),
    own: (await client.execute('query ($id: ID!) { run(id: $id) { status } }', { id: run.id })).run.status,
    deleted: (await client.deleteWorkflow({ id: workflow.id })) === workflow.id,
  }),
)
