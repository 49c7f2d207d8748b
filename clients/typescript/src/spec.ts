/** The spec of a workflow, as docs/spec.md describes it. `config` depends on the node type. */

/** Any JSON value. */
export type Json = null | boolean | number | string | Json[] | { [name: string]: Json }

export interface Spec {
  /** A JSON Schema (2020-12) that the inputs of a run must fit. */
  inputs?: { [keyword: string]: Json }
  /** Templates by name, which make the output of the run. */
  outputs?: { [name: string]: Json }
  nodes: SpecNode[]
  edges?: SpecEdge[]
  /** How many runs of the workflow may be active at once. */
  concurrency?: { limit: number; onLimit?: 'queue' | 'reject' | 'cancelOldest' }
}

export interface SpecNode {
  /** 1 to 64 letters, digits, `_`, `-` and `.`. */
  id: string
  /** The name of a node type. */
  type: string
  label?: string
  config?: { [name: string]: Json }
  position?: { x: number; y: number }
  retry?: SpecRetry
  /** Seconds that one attempt may take. */
  timeoutS?: number
  /** What happens when the node fails. */
  onError?: 'fail' | 'continue' | 'branch'
  /** When a node with several incoming edges runs. */
  join?: 'all' | 'any' | { mode: 'all' | 'any'; cancelOthers?: boolean }
  /** How many times a loop may visit the node. */
  maxVisits?: number
}

export interface SpecRetry {
  /** Includes the first attempt. */
  maxAttempts?: number
  backoffS?: number
  multiplier?: number
  maxS?: number
  /** The codes to repeat; without codes, every error that is retryable. */
  on?: string[]
}

export interface SpecEdge {
  id?: string
  source: string
  target: string
  /** Without it, the edge leaves by every port except `error`. */
  port?: string
  /** An expression; the edge is taken if it is true. */
  condition?: string
}
