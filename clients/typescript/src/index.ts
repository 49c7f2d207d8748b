/** The client of a Treadle server. */
export * from './client.js'
export * from './errors.js'
export { RunView, type LogLine, type RunUpdate } from './view.js'
export type * from './generated/spec.js'
export type {
  EdgeStateFieldsFragment as EdgeState,
  FieldProblemFieldsFragment as FieldProblem,
  NodeStatus,
  ProblemFieldsFragment as ProblemData,
  RunErrorFieldsFragment as RunError,
  RunEventType,
  RunFilter,
  RunOptionsInput,
  RunStatus,
} from './generated/api.js'
