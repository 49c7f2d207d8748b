/** `TreadleClient`: operations, and runs that are watched over any number of connections. */
import { ServerUnavailable, TreadleError, OperationError, RunFailed, problemOf } from './errors.js'
import { send } from './exchange.js'
import * as api from './generated/api.js'
import { pause, Retries } from './retries.js'
import { overEvents, overSocket, type Connection, type Message } from './streams.js'
import type { RunUpdate } from './view.js'

export type Run = api.RunFieldsFragment
export type NodeState = api.NodeStateFieldsFragment
export type Workflow = api.WorkflowFieldsFragment
export type Draft = api.DraftFieldsFragment
export type Version = api.VersionFieldsFragment
type RunQueryRun = NonNullable<NonNullable<api.WaitsQuery['run']>>
export type Wait = RunQueryRun['waits'][number]
export type Token = string | (() => string | Promise<string>)
type TypedDocument<Result, Variables> = api.TypedDocumentString<Result, Variables>

const terminal: ReadonlySet<string> = new Set(['COMPLETED', 'FAILED', 'CANCELLED'])
const numbered: ReadonlySet<string> = new Set(['NodeStateChanged', 'LogRecorded', 'CheckpointSaved', 'RunStatusChanged'])
const updateTypes: ReadonlySet<string> = new Set([
  ...numbered, 'RunSnapshot', 'EdgeStateChanged', 'NodeOutputDelta', 'RunProgressed', 'HistoryExpired',
])

export interface ClientOptions {
  /** The address of the API. Default: `http://127.0.0.1:8000/graphql`. */
  url?: string
  /** A token or an API key, or a function that returns a valid one; it is called for each request and connection. */
  token?: Token
  /** Milliseconds in which a failed operation is sent again, if that is safe. Default: 60,000; 0 sends it once. */
  retryMs?: number
  /** Milliseconds in which a lost `watchRun` connects again. Default: without end. */
  reconnectMs?: number
  /** Milliseconds that one attempt may take. Default: 30,000. */
  timeoutMs?: number
  /** Called with the error and the milliseconds of the pause before each further attempt. */
  onRetry?: (error: TreadleError, pauseMs: number) => void
  /** How runs are watched. Default: a WebSocket, and Server-Sent Events where none can be opened. */
  transport?: 'websocket' | 'sse' | 'auto'
  /** The class of WebSockets, for Node.js before 22: that of the package `ws`. */
  webSocket?: unknown
  /** Default: the `fetch` of the platform. */
  fetch?: typeof fetch
}

export interface WatchOptions {
  /** The last `seq` that you have received. Default: none; a snapshot comes first. */
  after?: number | undefined
  /** Only changes of these types. Default: all. */
  types?: ReadonlyArray<api.RunEventType> | undefined
  /** Ends the watch with its reason. */
  signal?: AbortSignal | undefined
}

export type StartOptions = Omit<api.RunWorkflowInput, 'mode' | 'timeoutMs'>
export type StartSpecOptions = Omit<api.RunAdhocInput, 'mode' | 'timeoutMs'>

/** Return a run that has not failed. Throws `RunFailed`. */
export function succeeded(run: Run): Run {
  if (run.status === 'FAILED' || run.status === 'CANCELLED') throw new RunFailed(run)
  return run
}

export class TreadleClient {
  readonly url: string
  readonly #options: ClientOptions

  constructor(options: ClientOptions = {}) {
    this.#options = options
    this.url = options.url ?? 'http://127.0.0.1:8000/graphql'
  }

  /** Who you are, and the release of the server. */
  async viewer() {
    return (await this.execute(api.ViewerDocument, {})).viewer
  }

  /** A run; null if it does not exist or you may not see it. */
  async run(id: string): Promise<Run | null> {
    return (await this.execute(api.RunDocument, { id })).run
  }

  /** A page of runs, newest first. */
  async runs(variables: api.RunsQueryVariables = {}) {
    return (await this.execute(api.RunsDocument, variables)).runs!
  }

  /** The present state of every node; null if there is no such run. */
  async nodeStates(runId: string): Promise<NodeState[] | null> {
    return (await this.execute(api.NodeStatesDocument, { id: runId })).run?.nodeStates ?? null
  }

  /** Everything that a run waits for now; null if there is no such run. */
  async waits(runId: string): Promise<Wait[] | null> {
    return (await this.execute(api.WaitsDocument, { id: runId })).run?.waits ?? null
  }

  /** A workflow with its draft; null if it does not exist or you may not see it. */
  async workflow(id: string): Promise<Workflow | null> {
    return (await this.execute(api.WorkflowDocument, { id })).workflow
  }

  /** A page of workflows, newest first. */
  async workflows(variables: api.WorkflowsQueryVariables = {}) {
    return (await this.execute(api.WorkflowsDocument, variables)).workflows!
  }

  /** All problems of a spec. Neither saves nor executes anything. */
  async validateSpec(spec: unknown) {
    return (await this.execute(api.ValidateSpecDocument, { spec })).validateSpec!
  }

  async createWorkflow(input: api.CreateWorkflowInput): Promise<Workflow> {
    return checked((await this.execute(api.CreateWorkflowDocument, { input })).createWorkflow).workflow!
  }

  async deleteWorkflow(input: api.DeleteWorkflowInput): Promise<string> {
    return checked((await this.execute(api.DeleteWorkflowDocument, { input })).deleteWorkflow).deletedId!
  }

  /** Save the draft if it still has `expectedRevision`. Else throws a `ConflictProblem` with the present draft. */
  async saveDraft(input: api.SaveDraftInput): Promise<Draft> {
    return checked((await this.execute(api.SaveDraftDocument, { input })).saveDraft).draft!
  }

  /** Create a version from the draft, or return the one with the same content. */
  async createVersion(input: api.CreateVersionInput): Promise<Version> {
    return checked((await this.execute(api.CreateVersionDocument, { input }, true)).createVersion).version!
  }

  /** Make a version the one that runs by default. */
  async publishVersion(input: api.VersionInput): Promise<Version> {
    return checked((await this.execute(api.PublishVersionDocument, { input }, true)).publishVersion).version!
  }

  /** Create a run without starting it. */
  async createRun(input: api.CreateRunInput): Promise<Run> {
    return checked((await this.#keyed(api.CreateRunDocument, input)).createRun).run!
  }

  async executeRun(input: api.ExecuteRunInput): Promise<Run> {
    return checked((await this.#keyed(api.ExecuteRunDocument, input)).executeRun).run!
  }

  /** Start a run: of the published version, else of the draft. Follow it with `watchRun` or `waitForRun`. */
  async runWorkflow(input: StartOptions): Promise<Run> {
    return checked((await this.#keyed(api.RunWorkflowDocument, input)).runWorkflow).run!
  }

  /** Start a run of a spec that belongs to no workflow. */
  async runAdhoc(input: StartSpecOptions): Promise<Run> {
    return checked((await this.#keyed(api.RunAdhocDocument, input)).runAdhoc).run!
  }

  async cancelRun(input: api.CancelRunInput): Promise<Run> {
    return checked((await this.#keyed(api.CancelRunDocument, input)).cancelRun).run!
  }

  async pauseRun(input: api.PauseRunInput): Promise<Run> {
    return checked((await this.#keyed(api.PauseRunDocument, input)).pauseRun).run!
  }

  /** Continue a PAUSED run, from an earlier checkpoint if named, or answer a question. */
  async resumeRun(input: api.ResumeRunInput): Promise<Run> {
    return checked((await this.#keyed(api.ResumeRunDocument, input)).resumeRun).run!
  }

  async stepRun(input: api.StepRunInput): Promise<Run> {
    return checked((await this.#keyed(api.StepRunDocument, input)).stepRun).run!
  }

  async retryRun(input: api.RetryRunInput): Promise<Run> {
    return checked((await this.#keyed(api.RetryRunDocument, input)).retryRun).run!
  }

  async forkRun(input: api.ForkRunInput): Promise<Run> {
    return checked((await this.#keyed(api.ForkRunDocument, input)).forkRun).run!
  }

  /** Wait until a run has ended, and return it. */
  async waitForRun(id: string, options: { signal?: AbortSignal } = {}): Promise<Run> {
    for await (const _ of this.watchRun(id, { types: ['RUN_STATUS'], signal: options.signal })) continue
    const run = await this.run(id)
    if (run === null) throw new TreadleError(`the run ${id} was deleted while the client waited for its end`)
    return run
  }

  /** Start a run of a workflow or of a spec, wait until it has ended, and return it; also if it has failed. */
  async runAndWait(input: StartOptions | StartSpecOptions): Promise<Run> {
    const run = 'spec' in input ? await this.runAdhoc(input) : await this.runWorkflow(input)
    return this.waitForRun(run.id)
  }

  /** Yield the updates of a run until it ends. A lost connection continues after the last `seq`. */
  async *watchRun(id: string, options: WatchOptions = {}): AsyncGenerator<RunUpdate, void, undefined> {
    const retries = this.#retries(this.#options.reconnectMs ?? Infinity, true)
    const watch = new Watch(id, options.after, options.types)
    let stream = this.#firstStream()
    while (!watch.isEnded) {
      let isLost = false
      try {
        for await (const message of stream(this.#connection(), String(api.WatchRunDocument), watch.variables())) {
          options.signal?.throwIfAborted()
          retries.succeeded()
          isLost = true
          const update = watch.receive(message['runUpdates'])
          if (update !== undefined) yield update
        }
        if (watch.isEnded || (await this.#hasEnded(id))) return
        throw new ServerUnavailable(`the stream of ${this.url} has ended early`)
      } catch (error) {
        if (watch.isEnded) return
        if (!(error instanceof TreadleError)) throw error
        // A proxy may refuse WebSockets: then the other transport is next.
        if (!isLost && (this.#options.transport ?? 'auto') === 'auto' && error instanceof ServerUnavailable) {
          stream = stream === overSocket ? overEvents : this.#firstStream()
        }
        await pause(retries.pauseAfter(error), options.signal)
      }
    }
  }

  /** Yield the `data` of each message of a subscription of your own, over one connection. */
  subscribe(query: string, variables: Record<string, unknown> = {}): AsyncGenerator<Message> {
    return this.#firstStream()(this.#connection(), query, variables)
  }

  /**
   * Execute a query or mutation, and return its `data`.
   *
   * `isRepeatable` says whether it may be sent again if its response is lost. Default: unless it is a mutation.
   */
  async execute<Result = Message, Variables = Record<string, unknown>>(
    document: TypedDocument<Result, Variables> | string,
    variables?: Variables,
    isRepeatable?: boolean,
  ): Promise<Result> {
    const query = String(document)
    const retries = this.#retries(this.#options.retryMs ?? 60_000, isRepeatable ?? !/\bmutation\b/.test(query))
    const wait = Number((variables as { input?: { timeoutMs?: number } } | undefined)?.input?.timeoutMs ?? 0)
    const timeoutMs = (this.#options.timeoutMs ?? 30_000) + wait
    for (;;) {
      try {
        const { url, fetch, headers } = this.#connection()
        return (await send(fetch, url, { query, variables: variables ?? {} }, await headers(), timeoutMs)) as Result
      } catch (error) {
        if (!(error instanceof TreadleError)) throw error
        await pause(retries.pauseAfter(error))
      }
    }
  }

  /** Execute a mutation with an idempotency key, so that it can be repeated: the server executes it once. */
  #keyed<Result, Input extends { idempotencyKey?: string | null | undefined }>(
    document: TypedDocument<Result, { input: Input }>,
    input: Input,
  ): Promise<Result> {
    return this.execute(document, { input: { ...input, idempotencyKey: input.idempotencyKey ?? crypto.randomUUID() } }, true)
  }

  #retries(limitMs: number, isRepeatable: boolean): Retries {
    const hasFreshTokens = typeof this.#options.token === 'function'
    return new Retries({ limitMs, hasFreshTokens, isRepeatable, onRetry: this.#options.onRetry })
  }

  #connection(): Connection {
    const { token, fetch: fetchFn } = this.#options
    const headers = async (): Promise<Record<string, string>> => {
      const value = typeof token === 'function' ? await token() : token
      return value === undefined ? {} : { Authorization: `Bearer ${value}` }
    }
    return { url: this.url, headers, fetch: fetchFn ?? fetch.bind(globalThis), webSocket: this.#options.webSocket }
  }

  #firstStream(): typeof overSocket {
    const { transport = 'auto', webSocket } = this.#options
    const hasSocket = webSocket !== undefined || typeof WebSocket !== 'undefined'
    return transport === 'websocket' || (transport === 'auto' && hasSocket) ? overSocket : overEvents
  }

  async #hasEnded(id: string): Promise<boolean> {
    const run = await this.run(id)
    return run === null || terminal.has(run.status)
  }
}

/** The position of a client in the updates of a run. */
class Watch {
  isEnded = false
  #seq: number | undefined
  readonly #id: string
  readonly #types: ReadonlyArray<string> | undefined

  constructor(id: string, after: number | undefined, types: ReadonlyArray<string> | undefined) {
    this.#id = id
    this.#seq = after
    this.#types = types
  }

  /** The variables of the subscription that continues after the last update. The end is always asked for. */
  variables(): object {
    const types = this.#types === undefined ? null : [...new Set([...this.#types, 'RUN_STATUS'])]
    return { runId: this.#id, after: this.#seq ?? null, types }
  }

  /** Advance, and return the update; undefined if it is a repeat, was not asked for, or is of an unknown type. */
  receive(update: RunUpdate): RunUpdate | undefined {
    const name = update.__typename
    if (!updateTypes.has(name)) return undefined
    if (numbered.has(name) && this.#seq !== undefined && update.seq <= this.#seq) return undefined
    this.#seq = Math.max(update.seq, this.#seq ?? 0)
    const status = name === 'RunSnapshot' ? update.run.status : name === 'RunStatusChanged' ? update.status : ''
    if (terminal.has(status)) this.isEnded = true
    const isAsked = name !== 'RunStatusChanged' || this.#types === undefined || this.#types.includes('RUN_STATUS')
    return isAsked ? update : undefined
  }
}

type Payload = { errors: ReadonlyArray<api.ProblemFieldsFragment> }

/** Return a payload without problems. Throws the problem. */
function checked<Kind extends Payload>(payload: Kind | null): Kind {
  if (payload === null) throw new OperationError([{ message: 'the server returned no payload' }])
  if (payload.errors.length > 0) throw problemOf(payload.errors)
  return payload
}
