/** The errors of the client. All of them are `TreadleError`s, and say what to do. */
import type { DraftFieldsFragment, FieldProblemFieldsFragment, ProblemFieldsFragment, RunFieldsFragment } from './generated/api.js'

export class TreadleError extends Error {
  constructor(message: string) {
    super(message)
    this.name = this.constructor.name
  }
  /** Whether the same operation may succeed later. */
  get isTransient(): boolean {
    return false
  }
  /** Whether the server may have executed the operation. */
  get mayBeExecuted(): boolean {
    return true
  }
  /** Seconds that the server asks to wait; undefined if it does not say it. */
  retryAfterS: number | undefined
}

/** No server responds, or it cannot serve requests now. Another attempt may succeed. */
export class ServerUnavailable extends TreadleError {
  override get isTransient(): boolean {
    return true
  }
}

/** The address cannot be used, is not that of a Treadle server, or a proxy has changed the response. */
export class AddressError extends TreadleError {}

export interface GraphQLErrorShape {
  message: string
  path?: ReadonlyArray<string | number> | undefined
  extensions?: { code?: string; retryAfterS?: number; requestId?: string; [name: string]: unknown } | undefined
}

/** The server refuses the operation, or it has failed. `code` is that of the first error, such as FORBIDDEN. */
export class OperationError extends TreadleError {
  readonly errors: ReadonlyArray<GraphQLErrorShape>
  readonly code: string
  /** The HTTP status; undefined for an error in a stream. */
  readonly status: number | undefined

  constructor(errors: ReadonlyArray<GraphQLErrorShape>, status?: number) {
    super(errors.map((error) => error.message).join('; '))
    this.errors = errors
    this.status = status
    this.code = errors[0]?.extensions?.code ?? 'INTERNAL'
    this.retryAfterS = errors[0]?.extensions?.retryAfterS
  }
  override get isTransient(): boolean {
    return this.code === 'UNAVAILABLE' || this.retryAfterS !== undefined
  }
  /** A limit refuses an operation before it is executed. */
  override get mayBeExecuted(): boolean {
    return this.code !== 'LIMIT'
  }
}

type ProblemShape = ProblemFieldsFragment
type ShapeOf<Name extends string> = Extract<ProblemShape, { __typename: Name }>

/** A mutation was refused, and changed nothing. It is a problem of RFC 9457; each type of the schema has a class. */
export class Problem<Shape extends ProblemShape = ProblemShape> extends TreadleError {
  /** The problem as it was sent. */
  readonly problem: Shape
  /** All problems of the payload. This error is the first of them. */
  readonly problems: ReadonlyArray<ProblemShape>

  constructor(problems: ReadonlyArray<ProblemShape>) {
    const first = problems[0] as Shape
    super(`${first.title}: ${first.detail}`)
    this.problem = first
    this.problems = problems
  }
  get code(): string {
    return this.problem.code
  }
  get detail(): string {
    return this.problem.detail
  }
  get status(): number {
    return this.problem.status
  }
}

/** The input is wrong. `errors` names every wrong field. */
export class ValidationProblem extends Problem<ShapeOf<'ValidationProblem'>> {
  get errors(): ReadonlyArray<FieldProblemFieldsFragment> {
    return this.problem.errors
  }
}

/** No object that you may see has the id `resourceId`. */
export class NotFoundProblem extends Problem<ShapeOf<'NotFoundProblem'>> {
  get resourceId(): string {
    return this.problem.resourceId
  }
}

/** Another client saved first, or an idempotency key was used with other arguments. */
export class ConflictProblem extends Problem<ShapeOf<'ConflictProblem'>> {
  /** The present revision of the draft; null if the conflict is about something else. */
  get currentRevision(): number | null {
    return this.problem.currentRevision
  }
  /** The current draft, to merge with. */
  get draft(): DraftFieldsFragment | null {
    return this.problem.draft
  }
}

/** The present status does not allow the change. `availableActions` of the run says what is allowed. */
export class InvalidStateProblem extends Problem<ShapeOf<'InvalidStateProblem'>> {
  get runStatus(): string | null {
    return this.problem.runStatus
  }
}

/** A problem without data of its own: `code` and `detail` describe it. */
export class GeneralProblem extends Problem<ShapeOf<'GeneralProblem'>> {}

type ProblemClass = new (problems: ReadonlyArray<ProblemShape>) => Problem
export const problemClasses: Record<ProblemShape['__typename'], ProblemClass> = {
  ValidationProblem,
  NotFoundProblem,
  ConflictProblem,
  InvalidStateProblem,
  GeneralProblem,
}

/** Creates the error of a payload with problems. A type that a newer server has is a plain `Problem`. */
export function problemOf(problems: ReadonlyArray<ProblemShape>): Problem {
  const kind = problemClasses[problems[0]?.__typename as ProblemShape['__typename']] ?? Problem
  return new kind(problems)
}

/** A run has ended as FAILED or CANCELLED. */
export class RunFailed extends TreadleError {
  readonly run: RunFieldsFragment
  constructor(run: RunFieldsFragment) {
    const error = run.error
    const reason = error ? `: ${error.code} at ${error.nodeId ?? 'the run'}: ${error.message}` : ''
    super(`${run.id} is ${run.status}${reason}`)
    this.run = run
  }
}
