// One participant with a stock y-websocket provider, driven over stdin: edits a Y.Text as a trace recorded it.
//
// The network is under the driver's control: updates of others are held back until the trace merges them. An update is
// known by the SHA-1 of its bytes, so that exactly the recorded edits are merged, in the recorded order.
import { createHash } from 'node:crypto'
import { createInterface } from 'node:readline'
import * as decoding from 'lib0/decoding'
import WebSocket from 'ws'
import { WebsocketProvider } from 'y-websocket'
import * as Y from 'yjs'

const doc = new Y.Doc()
const text = doc.getText('text')
const sha1 = (bytes) => createHash('sha1').update(bytes).digest('hex')

let holding = false
const held = new Map() // hash → what delivers the frame
const waiting = new Map() // hash → what to call when it arrives

function updateOf(frame) {
  const decoder = decoding.createDecoder(new Uint8Array(frame))
  if (decoding.readVarUint(decoder) !== 0 || decoding.readVarUint(decoder) !== 2) return null
  return decoding.readVarUint8Array(decoder)
}

class HeldSocket extends WebSocket {
  set onmessage(listener) {
    super.onmessage = (event) => {
      const update = updateOf(event.data)
      if (!holding || update === null) return listener(event)
      const hash = sha1(update)
      held.set(hash, () => listener(event))
      waiting.get(hash)?.()
    }
  }
}

async function merge(hash) {
  if (!held.has(hash)) await new Promise((resolve) => waiting.set(hash, resolve))
  waiting.delete(hash)
  held.get(hash)()
  held.delete(hash)
}

const made = []
doc.on('update', (update, origin) => { if (origin === 'me') made.push(sha1(update)) })

async function edit({ merges, patches }) {
  for (const hash of merges) await merge(hash)
  doc.transact(() => {
    for (const [position, deleted, inserted] of patches) {
      if (deleted) text.delete(position, deleted)
      if (inserted) text.insert(position, inserted)
    }
  }, 'me')
  return made.pop()
}

let provider
const closes = []
const commands = {
  async open({ url, room, params, client }) {
    doc.clientID = client
    provider = new WebsocketProvider(url, room, doc, { WebSocketPolyfill: HeldSocket, params, disableBc: true, maxBackoffTime: 200 })
    provider.on('connection-close', (event) => { if (event) closes.push([event.code, event.reason]) })
    await new Promise((resolve) => provider.once('sync', resolve))
  },
  async edits({ edits }) {
    const hashes = []
    for (const one of edits) hashes.push(await edit(one))
    return hashes
  },
  async hold() { holding = true },
  async release() {
    holding = false
    for (const deliver of held.values()) deliver()
    held.clear()
  },
  async reaches({ wanted }) {
    if (text.toString() === wanted) return
    await new Promise((resolve) => {
      const look = () => { if (text.toString() === wanted) { doc.off('update', look); resolve() } }
      doc.on('update', look)
    })
  },
  async text() { return text.toString() },
  async closes() { return closes },
  async close() { provider.destroy(); process.exit(0) }
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line)
  const answer = await commands[command.do](command)
  console.log(JSON.stringify(answer ?? null))
}
