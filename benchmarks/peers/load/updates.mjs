// Updates (Yjs v1) written by hand, so that ten thousand authors need no replica each, and read as far as a row needs.

import * as encoding from 'lib0/encoding'
import { Bytes } from './bytes.mjs'

const ANY = 8
const STRING = 4
const TYPE = 7
const MAP = 1
const ORIGIN = 0x80
const RIGHT_ORIGIN = 0x40
const KEY = 0x20
export const STRUCTS_OF_A_MESSAGE = 6
const bytes = new Bytes()

function update (client, clock, structs, write) {
  return encoding.encode(e => {
    encoding.writeVarUint(e, 1)
    encoding.writeVarUint(e, structs)
    encoding.writeVarUint(e, client)
    encoding.writeVarUint(e, clock)
    write(e)
    encoding.writeVarUint(e, 0) // deletes nothing
  })
}

/** Where a struct stands: behind `origin`, a clock of `client`, or first in the root `root`. */
function writePlace (e, content, client, origin, root) {
  if (origin === null) {
    encoding.writeUint8(e, content)
    encoding.writeVarUint(e, 1)
    encoding.writeVarString(e, root)
  } else {
    encoding.writeUint8(e, content | ORIGIN)
    encoding.writeVarUint(e, client)
    encoding.writeVarUint(e, origin)
  }
}

/** The update that appends the letter number `clock` of `client` to the root text `text`. */
export function letter (client, clock) {
  return update(client, clock, 1, e => {
    writePlace(e, STRING, client, clock === 0 ? null : clock - 1, 'text')
    encoding.writeVarString(e, 'x')
  })
}

/** The update that appends message number `count` of `client` to the root array `messages`: a map with its fields. */
export function message (client, count, id, author, sent) {
  const clock = count * STRUCTS_OF_A_MESSAGE
  const fields = { id, author, body: 'The quick brown fox jumps over the lazy dog, again.', sent }
  const writeKey = (e, content, key) => {
    encoding.writeUint8(e, content | KEY)
    encoding.writeVarUint(e, 0)
    encoding.writeVarUint(e, client)
    encoding.writeVarUint(e, clock)
    encoding.writeVarString(e, key)
  }
  return update(client, clock, STRUCTS_OF_A_MESSAGE, e => {
    writePlace(e, TYPE, client, count === 0 ? null : clock - STRUCTS_OF_A_MESSAGE, 'messages')
    encoding.writeVarUint(e, MAP)
    for (const [key, value] of Object.entries(fields)) {
      writeKey(e, ANY, key)
      encoding.writeVarUint(e, 1)
      encoding.writeAny(e, value)
    }
    writeKey(e, TYPE, 'reactions')
    encoding.writeVarUint(e, MAP)
  })
}

/** Calls `each(client, clock)` for every letter in an update made of letters: servers may join several to one. */
export function letters (data, each) {
  bytes.open(data)
  for (let clients = bytes.number(); clients > 0; clients--) {
    const structs = bytes.number()
    const client = bytes.number()
    let clock = bytes.number()
    for (let left = structs; left > 0; left--) {
      const info = bytes.byte()
      if ((info & 31) !== STRING) return
      if (info & ORIGIN) { bytes.number(); bytes.number() }
      if (info & RIGHT_ORIGIN) { bytes.number(); bytes.number() }
      if (!(info & (ORIGIN | RIGHT_ORIGIN)) && bytes.number() === 1) bytes.pass()
      for (let end = clock + bytes.pass(); clock < end; clock++) each(client, clock)
    }
  }
}

/** The first clock in an update of one client; null when it only deletes. */
export function begin (data) {
  bytes.open(data)
  if (bytes.number() === 0) return null
  bytes.number()
  bytes.number()
  return bytes.number()
}

/** Calls `each(client, clock, state)` for the states in an awareness update. */
export function states (data, each) {
  bytes.open(data)
  for (let count = bytes.number(); count > 0; count--) each(bytes.number(), bytes.number(), bytes.text())
}
