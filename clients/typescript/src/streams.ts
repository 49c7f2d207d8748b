/** One connection of a subscription, over WebSocket or Server-Sent Events. Each failure becomes a `TreadleError`. */
import { createClient as createSse, NetworkError } from 'graphql-sse'
import { createClient as createSocket, type Client as SocketClient } from 'graphql-ws'
import { OperationError, ServerUnavailable, TreadleError, type GraphQLErrorShape } from './errors.js'
import { maxBytes, noRedirects, reasonOf, refusalOf, streamRefusal, tooLarge } from './exchange.js'

/** Milliseconds without a byte after which a connection is lost. */
const quietMs = 45_000
const pingMs = 15_000
/** The close code of a token that is refused, has expired, or was revoked. */
const forbidden = 4403
/** The one close code between 4400 and 4499 that is no refusal: `connection_init` came too late. */
const timedOut = 4408

export interface Connection {
  url: string
  headers: () => Promise<Record<string, string>>
  fetch: typeof fetch
  webSocket: unknown
}

export type Message = Record<string, any>

interface Result {
  data?: Message | null
  errors?: ReadonlyArray<GraphQLErrorShape>
}

/** Yield the `data` of each message, over Server-Sent Events. */
export async function* overEvents(connection: Connection, query: string, variables: object): AsyncGenerator<Message> {
  let refusal: TreadleError | Promise<TreadleError> | undefined
  const client = createSse({
    url: connection.url,
    headers: connection.headers,
    retryAttempts: 0,
    fetchFn: async (url: string, init: RequestInit) => {
      const response = await connection.fetch(url, { ...init, ...noRedirects })
      if (response.ok && response.body && response.headers.get('content-type')?.startsWith('text/event-stream')) {
        return watched(response, () => (refusal = tooLarge('an event', connection.url)))
      }
      refusal = streamRefusal(response, connection.url)
      // graphql-sse reads no body of a refused request.
      return new Response(null, { status: 502 })
    },
  })
  try {
    const results = client.iterate({ query, variables: { ...variables } })
    for await (const result of results) yield dataOf(result as Result)
  } catch (error) {
    if (refusal) throw await refusal
    if (error instanceof NetworkError && error.response) throw refusalOf(error.response as Response, connection.url)
    throw asTreadleError(error, connection.url)
  } finally {
    client.dispose()
  }
}

/** Yield the `data` of each message, over a WebSocket. */
export async function* overSocket(connection: Connection, query: string, variables: object): AsyncGenerator<Message> {
  const client = openSocket(connection)
  try {
    const results = client.iterate<Message>({ query, variables: { ...variables } })
    for await (const result of results) yield dataOf(result as Result)
  } catch (error) {
    throw asTreadleError(error, connection.url)
  } finally {
    await client.dispose()
  }
}

function openSocket(connection: Connection): SocketClient {
  let socket: { close: (code: number, reason: string) => void } | undefined
  let timer: ReturnType<typeof setTimeout> | undefined
  return createSocket({
    url: connection.url.replace(/^http/, 'ws'),
    connectionParams: async () => {
      const { Authorization: authorization } = await connection.headers()
      return authorization === undefined ? {} : { authorization }
    },
    ...(connection.webSocket ? { webSocketImpl: connection.webSocket } : {}),
    retryAttempts: 0,
    keepAlive: pingMs,
    on: {
      opened: (opened) => {
        socket = opened as typeof socket
      },
      // A server that does not answer a ping is lost, also if the network does not say it.
      ping: (isReceived) => {
        if (!isReceived) timer = setTimeout(() => socket?.close(4499, 'No pong.'), pingMs)
      },
      pong: (isReceived) => {
        if (isReceived) clearTimeout(timer)
      },
      closed: () => clearTimeout(timer),
    },
  })
}

function dataOf(result: Result): Message {
  if (result.errors && result.errors.length > 0) throw new OperationError(result.errors)
  return result.data ?? {}
}

function asTreadleError(error: unknown, url: string): TreadleError {
  if (error instanceof TreadleError) return error
  if (Array.isArray(error)) return new OperationError(error as GraphQLErrorShape[])
  const { code, reason } = (error ?? {}) as { code?: unknown; reason?: unknown }
  if (code === forbidden) {
    return new OperationError([{ message: String(reason), extensions: { code: 'UNAUTHENTICATED' } }])
  }
  if (typeof code === 'number' && code >= 4400 && code < 4499 && code !== timedOut) {
    return new TreadleError(`the server at ${url} closes the socket with ${code} ${String(reason)}`)
  }
  const text = typeof code === 'number' ? `close code ${code}` : reasonOf(error)
  return new ServerUnavailable(`the connection to ${url} was lost (${text})`)
}

/** Return the bytes of an event stream behind its last complete event, which an empty line ends. */
function openEventSize(): (chunk: Uint8Array) => number {
  const lineEnd = 10
  let [size, isAtLineStart] = [0, true]
  return (chunk) => {
    let end = isAtLineStart && chunk[0] === lineEnd ? 1 : 0
    for (let at = chunk.lastIndexOf(lineEnd); at > 0; at = chunk.lastIndexOf(lineEnd, at - 1)) {
      if (chunk[at - 1] !== lineEnd) continue
      end = at + 1
      break
    }
    size = end > 0 ? chunk.length - end : size + chunk.length
    isAtLineStart = chunk.at(-1) === lineEnd
    return size
  }
}

/**
 * Return the response with a body that fails after a time without a byte, and above the limit of one event.
 *
 * The server sends a byte every 15 s. `onTooLarge` is called for an event that is too large.
 */
function watched(response: Response, onTooLarge: () => TreadleError): Response {
  const sizeAfter = openEventSize()
  let timer: ReturnType<typeof setTimeout> | undefined
  const restart = (controller: TransformStreamDefaultController) => {
    clearTimeout(timer)
    timer = setTimeout(() => controller.error(new Error('nothing was received for 45 s')), quietMs)
    // In Node.js, it does not keep a process alive whose stream is complete.
    ;(timer as { unref?: () => void }).unref?.()
  }
  const body = response.body!.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      start: restart,
      transform: (chunk, controller) => {
        if (sizeAfter(chunk) > maxBytes) throw onTooLarge()
        restart(controller)
        controller.enqueue(chunk)
      },
      flush: () => clearTimeout(timer),
    }),
  )
  const { status, statusText, headers } = response
  return new Response(ended(body, () => clearTimeout(timer)), { status, statusText, headers })
}

/** Call `stop` when a stream is cancelled or fails. */
function ended(body: ReadableStream<Uint8Array>, stop: () => void): ReadableStream<Uint8Array> {
  const reader = body.getReader()
  return new ReadableStream<Uint8Array>({
    pull: async (controller) => {
      try {
        const { done, value } = await reader.read()
        if (done) controller.close()
        else controller.enqueue(value)
      } catch (error) {
        stop()
        controller.error(error)
      }
    },
    cancel: async (reason) => {
      stop()
      await reader.cancel(reason)
    },
  })
}
