// Which failures are repeated, with a server that sends prepared responses.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { test } from 'node:test'
import { AddressError, OperationError, RunView, ServerUnavailable, TreadleClient } from '@treadle/client'

const lost = 'lost'
const json = (status, body, headers = {}) => ({ status, body: JSON.stringify(body), headers: { 'Content-Type': 'application/json', ...headers } })
const text = (status, body, type = 'text/html') => ({ status, body, headers: { 'Content-Type': type } })
const refused = (code, status = 200, retryAfterS, headers) =>
  json(status, { errors: [{ message: `It is ${code}.`, extensions: { code, retryAfterS } }] }, headers)
const done = json(200, { data: { done: true } })
const events = (...messages) => text(200, [':\n\n', ...messages.map((message) => `event: next\ndata: ${JSON.stringify(message)}\n\n`)].join(''), 'text/event-stream')
const complete = (stream) => ({ ...stream, body: `${stream.body}event: complete\ndata: \n\n` })
const log = (seq) => ({ data: { runUpdates: { __typename: 'LogRecorded', seq, level: 'INFO', message: 'm', fields: {} } } })
const end = { data: { runUpdates: { __typename: 'RunStatusChanged', seq: 9, status: 'COMPLETED', message: '' } } }

/** Call `use` with the address of a server that sends these responses, and return the requests. */
async function scripted(responses, use) {
  const requests = []
  const server = createServer((request, response) => {
    const chunks = []
    request.on('data', (chunk) => chunks.push(chunk))
    request.on('end', () => {
      const sent = responses[Math.min(requests.length, responses.length - 1)]
      requests.push({ headers: request.headers, body: JSON.parse(Buffer.concat(chunks)) })
      if (sent === lost) return response.destroy()
      response.writeHead(sent.status, { ...sent.headers, Connection: 'close' })
      response.end(sent.body)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    await use(`http://127.0.0.1:${server.address().port}/graphql`)
  } finally {
    server.closeAllConnections()
    server.close()
  }
  return requests
}

const [query, mutation] = ['{ done }', 'mutation { done }']
for (const [name, first, document, isRepeated] of [
  ['a lost query', lost, query, true],
  ['a lost mutation', lost, mutation, false],
  ['a query behind a proxy', text(502, '<html>'), query, true],
  ['a mutation behind a proxy', text(502, '<html>'), mutation, false],
  ['an unavailable query', refused('UNAVAILABLE', 503), query, true],
  ['an unavailable mutation', refused('UNAVAILABLE'), mutation, false],
  ['a limited mutation', refused('LIMIT', 429, 0.01), mutation, true],
  ['a limit with Retry-After', refused('LIMIT', 429, undefined, { 'Retry-After': '0' }), mutation, true],
  ['a limit of size', refused('LIMIT'), query, false],
  ['an invalid query', refused('VALIDATION', 400), query, false],
]) {
  test(`${name} is ${isRepeated ? '' : 'not '}repeated`, async () => {
    const requests = await scripted([first, done], async (url) => {
      const result = new TreadleClient({ url }).execute(document)
      if (isRepeated) assert.deepEqual(await result, { done: true })
      else await assert.rejects(result, (error) => error instanceof OperationError || error instanceof ServerUnavailable)
    })
    assert.equal(requests.length, isRepeated ? 2 : 1)
  })
}

test('a repeat has the same idempotency key', async () => {
  const payload = json(200, { data: { cancelRun: { run: { id: 'run_1' }, errors: [] } } })
  const requests = await scripted([lost, refused('UNAVAILABLE'), payload], async (url) => {
    assert.deepEqual(await new TreadleClient({ url }).cancelRun({ runId: 'run_1' }), { id: 'run_1' })
  })
  const keys = new Set(requests.map((request) => request.body.variables.input.idempotencyKey))
  assert.deepEqual([requests.length, keys.size], [3, 1])
})

test('a refused token is replaced once if a function gives tokens', async () => {
  let count = 0
  const token = () => `t${++count}`
  const requests = await scripted([refused('UNAUTHENTICATED', 401)], async (url) => {
    await assert.rejects(new TreadleClient({ url, token }).execute(query), OperationError)
  })
  assert.deepEqual(requests.map((request) => request.headers.authorization), ['Bearer t1', 'Bearer t2'])
})

const large = 'x'.repeat(33 * 1024 * 1024)
const execute = (client) => client.execute(query)
const watch = async (client) => { for await (const _ of client.watchRun('run_1')); }
const redirect = (body) => json(307, body, { Location: 'http://127.0.0.1:9/graphql' })
for (const [name, hostile, message, ...calls] of [
  ['a redirect', redirect({ data: { done: true } }), /redirects to http:\/\/127.0.0.1:9/, execute, watch],
  ['a redirect without an address', text(307, ''), /is not Treadle: it responds with HTTP 307/, execute, watch],
  ['a large response', text(200, large), /the response of .* is larger than 32 MiB/, execute, watch],
  ['a large event', events({ data: large }), /an event of .* is larger than 32 MiB/, watch],
]) {
  test(`${name} is refused, and the token is sent once`, async () => {
    for (const call of calls) {
      const requests = await scripted([hostile], async (url) => {
        const client = new TreadleClient({ url, token: 'secret', transport: 'sse' })
        await assert.rejects(call(client), (error) => error instanceof AddressError && message.test(error.message))
      })
      assert.equal(requests.length, 1)
    }
  })
}

test('an address that is not Treadle is reported', async () => {
  await scripted([text(200, 'Hello')], async (url) => {
    await assert.rejects(new TreadleClient({ url }).execute(query), AddressError)
  })
})

for (const [name, broken] of [
  ['a lost connection', lost],
  ['a stream without messages', events()],
  ['a stream that ends early', events(log(2), log(3))],
  ['HTTP 503', text(503, 'no')],
  ['a limit', refused('LIMIT', 429, 0.01)],
  ['an error in the stream', events(log(2), { errors: [{ message: 'Away.', extensions: { code: 'UNAVAILABLE' } }] })],
]) {
  test(`a watch continues by seq after ${name}`, async () => {
    const seqs = []
    const requests = await scripted([events(log(1)), broken, complete(events(log(2), log(3), end))], async (url) => {
      for await (const update of new TreadleClient({ url, transport: 'sse' }).watchRun('run_1')) seqs.push(update.seq)
    })
    assert.deepEqual(seqs, [1, 2, 3, 9])
    assert.deepEqual(requests.slice(0, 2).map((request) => request.body.variables.after), [null, 1])
  })
}

test('a refused watch throws, and an aborted one too', async () => {
  await scripted([refused('NOT_FOUND', 200)], async (url) => {
    const updates = new TreadleClient({ url, transport: 'sse' }).watchRun('run_1')
    await assert.rejects(updates.next(), (error) => error instanceof OperationError && error.code === 'NOT_FOUND')
  })
  await scripted([lost], async (url) => {
    const stop = new AbortController()
    const client = new TreadleClient({ url, transport: 'sse', onRetry: () => stop.abort(new Error('stopped')) })
    await assert.rejects(client.watchRun('run_1', { signal: stop.signal }).next(), /stopped/)
  })
})

test('a proxy without WebSockets is passed by Server-Sent Events', async () => {
  class NoSocket {
    static CONNECTING = 0
    static OPEN = 1
    static CLOSING = 2
    static CLOSED = 3
    close() {}
    constructor() {
      queueMicrotask(() => {
        this.onerror?.(new Error('refused'))
        this.onclose?.({ code: 1006, reason: '', wasClean: false })
      })
    }
  }
  await scripted([complete(events(end))], async (url) => {
    const seqs = []
    for await (const update of new TreadleClient({ url, webSocket: NoSocket }).watchRun('run_1')) seqs.push(update.seq)
    assert.deepEqual(seqs, [9])
  })
})

test('text is written at its offset in code points', () => {
  const view = new RunView()
  const delta = (offset, text) => ({ __typename: 'NodeOutputDelta', seq: 1, nodeId: 'a', offset, text })
  for (const update of [delta(0, '😀b'), delta(2, 'c'), delta(1, 'bcd')]) view.apply(update)
  assert.equal(view.texts.get('a'), '😀bcd')
})

test('a view keeps the newest lines of the log, each once', () => {
  const view = new RunView({ logLines: 2 })
  for (const seq of [1, 2, 3, 2, 3]) view.apply(log(seq).data.runUpdates)
  assert.deepEqual([view.log.map(({ seq }) => seq), view.seq], [[2, 3], 3])
})
