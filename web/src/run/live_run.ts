/**
 * A run as it changes. The project's client follows it over any number of connections; its updates are shown once a
 * frame. `connection` says whether what is shown is current.
 */
import { createStore, type StoreApi } from "zustand/vanilla";
import { RunView, type EdgeState, type LogLine, type NodeState, type RunStatus, TreadleError } from "@treadle/client";
import { resilientClient } from "~/shell/api";

export type Connection = "connecting" | "live" | "lost" | "ended" | "refused";

export interface LiveRun {
  readonly status: RunStatus | undefined;
  readonly progress: number;
  readonly nodes: ReadonlyMap<string, NodeState>;
  readonly edges: ReadonlyMap<string, EdgeState>;
  readonly texts: ReadonlyMap<string, string>;
  readonly log: readonly LogLine[];
  readonly connection: Connection;
  readonly problem: string | undefined;
  /** Rises with each change of the status, the checkpoints and the waits: what else is shown is read again then. */
  readonly milestone: number;
}

const EMPTY: LiveRun = {
  status: undefined,
  progress: 0,
  nodes: new Map(),
  edges: new Map(),
  texts: new Map(),
  log: [],
  connection: "connecting",
  problem: undefined,
  milestone: 0,
};
const TERMINAL: ReadonlySet<string> = new Set(["COMPLETED", "FAILED", "CANCELLED"]);
/** Lines of the log that are kept in the page. The log tab reads older ones from the server. */
const LOG_LINES = 2000;

export type LiveStore = StoreApi<LiveRun>;

export function isTerminal(status: string | undefined): boolean {
  return status !== undefined && TERMINAL.has(status);
}

/** Follow a run until it ends or `signal` is aborted. */
export function followRun(runId: string, signal: AbortSignal): LiveStore {
  const store = createStore(() => EMPTY);
  void new Follower(runId, signal, store).follow();
  return store;
}

class Follower {
  readonly #view = new RunView({ logLines: LOG_LINES });
  readonly #runId: string;
  readonly #signal: AbortSignal;
  readonly #store: LiveStore;
  #frame = 0;
  #milestone = 0;

  constructor(runId: string, signal: AbortSignal, store: LiveStore) {
    this.#runId = runId;
    this.#signal = signal;
    this.#store = store;
  }

  async follow(): Promise<void> {
    const client = resilientClient(() => void this.#lost());
    try {
      for await (const update of client.watchRun(this.#runId, { signal: this.#signal })) {
        this.#view.apply(update);
        if (update.__typename === "RunStatusChanged" || update.__typename === "RunSnapshot") this.#milestone += 1;
        if (update.__typename === "NodeStateChanged" && update.nodeState.status !== "RUNNING") this.#milestone += 1;
        this.#show();
      }
      this.#flush("ended");
    } catch (error) {
      if (this.#signal.aborted) return;
      this.#flush("refused", error instanceof TreadleError ? error.message : String(error));
    }
  }

  /** Say that the connection is lost, until the server responds again. */
  async #lost(): Promise<void> {
    if (this.#store.getState().connection === "lost") return;
    this.#store.setState({ connection: "lost" });
    try {
      await resilientClient().viewer();
    } catch (error) {
      if (!(error instanceof TreadleError)) throw error;
    }
    if (this.#store.getState().connection === "lost") this.#store.setState({ connection: "live" });
  }

  #show(): void {
    if (this.#frame === 0) this.#frame = requestAnimationFrame(() => this.#flush("live"));
  }

  #flush(connection: Connection, problem?: string): void {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (this.#signal.aborted) return;
    const { status, progress, nodes, edges, texts, log } = this.#view;
    this.#store.setState({
      status,
      progress,
      nodes: new Map(nodes),
      edges: new Map(edges),
      texts: new Map(texts),
      log: log.slice(-LOG_LINES),
      connection: isTerminal(status) ? "ended" : connection,
      problem,
      milestone: this.#milestone,
    });
  }
}
