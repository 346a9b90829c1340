// One participant over the wire: the y-websocket protocol, or Hocuspocus' (the same behind the document's name).
// No CRDT in here: what is sent was made before, and of what comes only the place in its frame is read.

import WebSocket from 'ws'
import * as encoding from 'lib0/encoding'
import { Bytes } from './bytes.mjs'

const SYNC = 0
const AWARENESS = 1
const AUTH = 2
const SYNC_REPLY = 4
const STEP1 = 0
const STEP2 = 1
const UPDATE = 2
const EMPTY_UPDATE = new Uint8Array([0, 0])
const EMPTY_VECTOR = new Uint8Array([0])
const FIRST_HOST = 2 // 127.0.0.2 to 127.0.0.201: no address runs out of ports, however many people there are
const HOSTS = 200

const bytes = new Bytes()

/** A frame of the sync protocol, `step` 0 to 2, with `content`. */
function sync (step, content) {
  return encoding.encode(e => {
    encoding.writeVarUint(e, SYNC)
    encoding.writeVarUint(e, step)
    encoding.writeVarUint8Array(e, content)
  })
}

export class Client {
  /** `address`: `{dialect, url, room, query}`. `onUpdate(client, bytes)` gets each update, `onAwareness` each set of states. */
  constructor (address, id, { onUpdate = null, onAwareness = null } = {}) {
    this.address = address
    this.id = id
    this.clock = 0
    this.closed = null
    this.state = null
    this.content = 0
    this.resolve = null
    this.onUpdate = onUpdate
    this.onAwareness = onAwareness
    this.hocuspocus = address.dialect === 'hocuspocus'
    this.prefix = this.hocuspocus ? encoding.encode(e => encoding.writeVarString(e, address.room)) : new Uint8Array(0)
  }

  /** Connect and sync; resolves with the milliseconds until sync step 2 is here, and `wanted` bytes of content. */
  join (wanted = 0) {
    const begun = performance.now()
    const { url, room, query } = this.address
    const target = this.hocuspocus ? url : `${url}/${room}${query ? `?${query}` : ''}`
    const localAddress = `127.0.0.${FIRST_HOST + this.id % HOSTS}`
    this.socket = new WebSocket(target, { perMessageDeflate: false, skipUTF8Validation: true, localAddress })
    this.socket.binaryType = 'nodebuffer'
    this.socket.on('open', () => this.greet())
    this.socket.on('message', data => this.receive(data))
    this.socket.on('error', error => this.fail(error))
    this.socket.on('close', (code, reason) => {
      this.closed = `${code} ${reason}`
      this.fail(new Error(`${room}: closed with ${this.closed}`))
    })
    return this.synced(wanted).then(() => performance.now() - begun)
  }

  /** Resolves at the next sync step 2, when `wanted` bytes of content have come. */
  synced (wanted) {
    this.wanted = wanted
    this.state = null
    return new Promise((resolve, reject) => {
      this.resolve = resolve
      this.fail = reject
    })
  }

  greet () {
    if (this.hocuspocus) {
      this.send(encoding.encode(e => {
        encoding.writeVarUint(e, AUTH)
        encoding.writeVarUint(e, 0)
        encoding.writeVarString(e, 'token')
      }))
    }
    this.send(sync(STEP1, EMPTY_VECTOR))
  }

  /** Resolves when the server has taken in what was sent: it answers a sync step 1 behind it that knows up to `clock`. */
  taken (clock) {
    const taken = this.synced(0)
    this.send(sync(STEP1, encoding.encode(e => [1, this.id, clock].forEach(number => encoding.writeVarUint(e, number)))))
    return taken
  }

  /** From now on read all that comes and look at none of it: a reader who costs the load generator next to nothing. */
  turnDeaf () {
    this.socket._socket.removeAllListeners('data')
    this.socket._socket.on('data', () => {})
  }

  send (message) {
    this.socket.send(this.prefix.length ? Buffer.concat([this.prefix, message]) : message)
  }

  receive (data) {
    bytes.open(data, this.prefix.length)
    const type = bytes.number()
    if (type === SYNC || type === SYNC_REPLY) {
      const step = bytes.number()
      if (step === STEP1) {
        this.send(sync(STEP2, EMPTY_UPDATE))
        return
      }
      const content = bytes.part()
      if (step === STEP2) this.state = content
      else if (this.onUpdate) this.onUpdate(this, content)
      if (this.resolve) this.arrive(content.length)
    } else if (type === AWARENESS && this.onAwareness) this.onAwareness(this, bytes.part())
  }

  /** y-websocket with LevelDB answers at once with nothing, and sends what is stored as an update behind it. */
  arrive (length) {
    this.content += length
    if (this.state === null || this.content < this.wanted) return
    this.resolve()
    this.resolve = null
  }

  sendUpdate (update) {
    this.send(sync(UPDATE, update))
  }

  /** Show `state`, any JSON, under this participant's client id. */
  sendAwareness (clock, state) {
    this.send(encoding.encode(e => {
      encoding.writeVarUint(e, AWARENESS)
      encoding.writeVarUint8Array(e, encoding.encode(inner => {
        encoding.writeVarUint(inner, 1)
        encoding.writeVarUint(inner, this.id)
        encoding.writeVarUint(inner, clock)
        encoding.writeVarString(inner, JSON.stringify(state))
      }))
    }))
  }

  close () {
    this.socket.close()
  }
}
