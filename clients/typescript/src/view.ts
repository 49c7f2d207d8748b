/** `RunView`: the state of a run that follows from its updates, for live views. */
import type { EdgeStateFieldsFragment, NodeStateFieldsFragment, RunFieldsFragment, RunStatus, WatchRunSubscription } from './generated/api.js'

export type RunUpdate = WatchRunSubscription['runUpdates']
export type LogLine = Extract<RunUpdate, { __typename: 'LogRecorded' }>

/** Lines of the log that a view keeps by default. */
const LOG_LINES = 10_000

/** Keeps a run up to date. Call `apply` with each update of `watchRun`. An update that comes twice changes nothing. */
export class RunView {
  /** The last number received; pass it as `after` to continue. */
  seq: number | undefined
  /** The run as of the last snapshot. */
  run: RunFieldsFragment | undefined
  status: RunStatus | undefined
  /** 0.0 to 1.0. */
  progress = 0
  readonly nodes = new Map<string, NodeStateFieldsFragment>()
  readonly edges = new Map<string, EdgeStateFieldsFragment>()
  /** The text that each node has streamed. */
  readonly texts = new Map<string, string>()
  /** The newest lines, oldest first. The server has all of them. */
  readonly log: LogLine[] = []
  readonly #logLines: number

  /** @param logLines How many lines of the log the view keeps at most. */
  constructor({ logLines = LOG_LINES }: { logLines?: number } = {}) {
    this.#logLines = logLines
  }

  apply(update: RunUpdate): void {
    this.seq = Math.max(update.seq, this.seq ?? 0)
    switch (update.__typename) {
      case 'RunSnapshot':
        return this.#show(update)
      case 'NodeStateChanged':
        return this.#changeNode(update.nodeState)
      case 'EdgeStateChanged':
        this.edges.set(update.edgeState.edgeId, update.edgeState)
        return
      case 'NodeOutputDelta': {
        // `offset` counts code points, so the text is cut as an array of code points.
        const id = update.nodeId ?? ''
        const before = [...(this.texts.get(id) ?? '')].slice(0, update.offset).join('')
        this.texts.set(id, before + update.text)
        return
      }
      case 'LogRecorded':
        if (update.seq > (this.log.at(-1)?.seq ?? -1)) this.log.push(update)
        if (this.log.length > this.#logLines) this.log.shift()
        return
      case 'RunProgressed':
        this.progress = update.progress
        return
      case 'RunStatusChanged':
        this.status = update.status
    }
  }

  #show(snapshot: Extract<RunUpdate, { __typename: 'RunSnapshot' }>): void {
    this.run = snapshot.run
    this.status = snapshot.run.status
    this.progress = snapshot.run.progress
    this.nodes.clear()
    this.edges.clear()
    this.texts.clear()
    for (const state of snapshot.nodeStates) this.#changeNode(state)
    for (const state of snapshot.edgeStates) this.edges.set(state.edgeId, state)
  }

  /** Set the state of a node and of the edges that leave it: a connection may be lost before their updates. */
  #changeNode(state: NodeStateFieldsFragment): void {
    this.nodes.set(state.nodeId, state)
    for (const edge of state.edgeStates) this.edges.set(edge.edgeId, edge)
    this.texts.set(state.nodeId, state.partialOutput ?? '')
  }
}
