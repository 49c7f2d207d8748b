// Watches a run: node watch.mjs URL RUN TRANSPORT [AFTER]. Prints the updates, and the view that follows from them.
import { RunView, TreadleClient } from '@treadle/client'
import WebSocket from 'ws'

const [url, runId, transport, after] = process.argv.slice(2)
const client = new TreadleClient({ url, transport, webSocket: WebSocket })
const view = new RunView()
const updates = []
for await (const update of client.watchRun(runId, { after: after === undefined ? undefined : Number(after) })) {
  updates.push([update.__typename, update.seq])
  view.apply(update)
}
const nodes = [...view.nodes.values()].map((state) => state.status)
const edges = [...view.edges.values()].map((state) => state.status)
console.log(JSON.stringify({ updates, status: view.status, seq: view.seq, progress: view.progress, nodes, edges }))
