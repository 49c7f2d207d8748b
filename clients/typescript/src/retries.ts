/** Decides after a failure whether an operation is sent again, and when. It is only if that is safe. */
import { OperationError, type TreadleError } from './errors.js'

const firstPauseMs = 100
const longestPauseMs = 5000

export interface RetryOptions {
  /** Milliseconds after the first failure in which another attempt is made. */
  limitMs: number
  /** Whether the next attempt has a new token. */
  hasFreshTokens: boolean
  /** Whether the operation may be sent again if it may have been executed. */
  isRepeatable: boolean
  /** Called before each pause. */
  onRetry?: ((error: TreadleError, pauseMs: number) => void) | undefined
}

export class Retries {
  readonly #options: RetryOptions
  #failures = 0
  #refusedTokens = 0
  #firstAt = 0

  constructor(options: RetryOptions) {
    this.#options = options
  }

  /** Forget all failures. */
  succeeded(): void {
    this.#failures = 0
    this.#refusedTokens = 0
  }

  /** Return the milliseconds until the next attempt. Throws the error if there is none. */
  pauseAfter(error: TreadleError): number {
    const now = performance.now()
    if (this.#failures === 0) this.#firstAt = now
    this.#failures += 1
    const pauseMs = this.#pauseMs(error)
    if (!this.#mayRepeat(error) || now + pauseMs - this.#firstAt > this.#options.limitMs) throw error
    this.#options.onRetry?.(error, pauseMs)
    return pauseMs
  }

  #mayRepeat(error: TreadleError): boolean {
    if (error instanceof OperationError && error.code === 'UNAUTHENTICATED') {
      this.#refusedTokens += 1
      return this.#options.hasFreshTokens && this.#refusedTokens === 1
    }
    return error.isTransient && (this.#options.isRepeatable || !error.mayBeExecuted)
  }

  #pauseMs(error: TreadleError): number {
    const longest = Math.min(longestPauseMs, firstPauseMs * 2 ** Math.min(this.#failures - 1, 20))
    return Math.max(longest / 2 + Math.random() * (longest / 2), (error.retryAfterS ?? 0) * 1000)
  }
}

/** Wait. Throws the reason of the signal if it is aborted. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason)
    const stop = () => {
      clearTimeout(timer)
      reject(signal?.reason)
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop)
      resolve()
    }, ms)
    signal?.addEventListener('abort', stop, { once: true })
  })
}
