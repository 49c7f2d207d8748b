/** Operations over HTTP. Each failure becomes a `TreadleError`. */
import { AddressError, OperationError, ServerUnavailable, type TreadleError } from './errors.js'

const retryableStatuses = [408, 425, 429]
const redirectStatuses = [301, 302, 303, 307, 308]
/** Bytes of one response, and of one event of a stream. A response of the server has at most 16 MiB. */
export const maxBytes = 32 * 1024 * 1024
/** A redirect may lead to another server, which would get the token, so none is followed. */
export const noRedirects = { redirect: 'manual' } as const

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
      ...noRedirects,
    })
    text = await textOf(response, url)
  } catch (error) {
    if (error instanceof AddressError) throw error
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

/** Read the text of a response up to the limit. Throws AddressError for a larger one, and for a redirect. */
async function textOf(response: Response, url: string): Promise<string> {
  refuseRedirect(response, url)
  if (response.body === null) return ''
  const reader = response.body.getReader()
  const decoder = new TextDecoder()
  let [text, size] = ['', 0]
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return text + decoder.decode()
    size += value.byteLength
    if (size > maxBytes) {
      await reader.cancel()
      throw tooLarge('the response', url)
    }
    text += decoder.decode(value, { stream: true })
  }
}

function refuseRedirect(response: Response, url: string): void {
  const target = response.headers.get('location')
  // A browser shows neither the status nor the target of a redirect.
  if (response.type !== 'opaqueredirect' && (target === null || !redirectStatuses.includes(response.status))) return
  throw new AddressError(`${url} redirects to ${target ?? 'another address'}: use that address if it is the right server`)
}

/** Return the error of a response, or of an event, above the limit. */
export function tooLarge(what: string, url: string): AddressError {
  return new AddressError(`${what} of ${url} is larger than ${maxBytes / 1024 / 1024} MiB`)
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
    const body = parsed(await textOf(response, url))
    if (Array.isArray(body?.errors) && body.errors.length > 0) {
      return withHeader(new OperationError(body.errors, response.status), response)
    }
  } catch (error) {
    if (error instanceof AddressError) return error
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
