/** Operations over HTTP. Each failure becomes a `TreadleError`. */
import { AddressError, OperationError, ServerUnavailable, type TreadleError } from './errors.js'

const retryableStatuses = [408, 425, 429]

/** Send one operation, and return the `data` of its response. */
export async function send(
  fetchFn: typeof fetch,
  url: string,
  body: unknown,
  headers: Record<string, string>,
  timeoutMs: number,
): Promise<Record<string, any>> {
  let response: Response
  let text: string
  try {
    response = await fetchFn(url, {
      method: 'POST',
      headers: {
        ...headers,
        Accept: 'application/graphql-response+json, application/json',
        'Content-Type': 'application/json',
      },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(timeoutMs),
    })
    text = await response.text()
  } catch (error) {
    throw new ServerUnavailable(`the server at ${url} does not respond (${reasonOf(error)})`)
  }
  return dataOf(response, text, url)
}

function dataOf(response: Response, text: string, url: string): Record<string, any> {
  const body = parsed(text)
  if (Array.isArray(body?.errors) && body.errors.length > 0) {
    throw withHeader(new OperationError(body.errors, response.status), response)
  }
  if (typeof body?.data === 'object' && body.data !== null) return body.data
  throw refusalOf(response, url)
}

/** Return the error of a response that is no GraphQL result. */
export function refusalOf(response: Response, url: string): TreadleError {
  if (response.status >= 500 || retryableStatuses.includes(response.status)) {
    return withHeader(new ServerUnavailable(`${url} responds with HTTP ${response.status}`), response)
  }
  return new AddressError(
    `the server at ${url} is not Treadle: it responds with HTTP ${response.status}, and not with a GraphQL result`,
  )
}

/** Return the error of a response that should have been a stream. */
export async function streamRefusal(response: Response, url: string): Promise<TreadleError> {
  try {
    const body = parsed(await response.text())
    if (Array.isArray(body?.errors) && body.errors.length > 0) {
      return withHeader(new OperationError(body.errors, response.status), response)
    }
  } catch (error) {
    return new ServerUnavailable(`the connection to ${url} was lost (${reasonOf(error)})`)
  }
  return refusalOf(response, url)
}

/** Say what an unknown error is. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const cause = error.cause instanceof Error ? `: ${error.cause.message || error.cause.name}` : ''
  return `${error.message}${cause}`
}

function withHeader<Fault extends TreadleError>(error: Fault, response: Response): Fault {
  const value = response.headers.get('retry-after')
  if (value === null || error.retryAfterS !== undefined) return error
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000
  if (Number.isFinite(seconds)) error.retryAfterS = Math.max(0, seconds)
  return error
}

function parsed(text: string): any {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
