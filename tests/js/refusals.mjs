// A stock Yjs replica with an UndoManager, driven line by line by the tests of refusals.
// {client}: begin. {hear: base64}. {do: name, args}. {undo: 'undo'|'redo'}. {send: base64 state vector}. {state: true}.
import { createInterface } from 'node:readline'
import * as Y from 'yjs'

const from = text => Uint8Array.from(Buffer.from(text, 'base64'))
const to = bytes => Buffer.from(bytes).toString('base64')
const map = fields => {
  const made = new Y.Map()
  for (const [key, value] of Object.entries(fields)) made.set(key, value && value.$map ? map(value.$map) : value)
  return made
}

let doc, undo, roots
const at = path => path.slice(1).reduce((type, step) => type.get(step), roots[path[0]])
const actions = {
  set: (path, key, value) => at(path).set(key, value),
  map: (path, key, fields) => at(path).set(key, map(fields)),
  text: (path, key, text) => at(path).set(key, new Y.Text(text)),
  unset: (path, key) => at(path).delete(key),
  insert: (path, index, fields) => at(path).insert(index, [map(fields)]),
  value: (path, index, value) => at(path).insert(index, [value]),
  remove: (path, index, count) => at(path).delete(index, count)
}

for await (const line of createInterface({ input: process.stdin })) {
  const message = JSON.parse(line)
  let answer = true
  if (message.client) {
    doc = new Y.Doc()
    doc.clientID = message.client
    roots = { messages: doc.getArray('messages') }
    for (const name of ['nodes', 'materials', 'comments', 'settings']) roots[name] = doc.getMap(name)
    undo = new Y.UndoManager(Object.values(roots), { captureTimeout: 0 })
  } else if (message.hear) Y.applyUpdate(doc, from(message.hear), 'remote')
  else if (message.undo) undo[message.undo]()
  else if (message.send) answer = to(Y.encodeStateAsUpdate(doc, from(message.send)))
  else if (message.state) answer = Object.fromEntries(Object.entries(roots).map(([name, type]) => [name, type.toJSON()]))
  else doc.transact(() => { for (const [name, ...args] of message.do) actions[name](...args) })
  if (doc.store.pendingStructs || doc.store.pendingDs) throw new Error('something is pending')
  console.log(JSON.stringify(answer))
}
