// What a scene editor with an UndoManager sends after overwriting a register several times without a network: the
// overwritten values are kept for undo, and Yjs joins them to one struct of several values at one key.
// For each line {state, node}, base64 of what the server has: one line with the update, base64.
import { createInterface } from 'node:readline'
import * as Y from 'yjs'

for await (const line of createInterface({ input: process.stdin })) {
  const { state, node } = JSON.parse(line)
  const doc = new Y.Doc()
  const nodes = doc.getMap('nodes')
  const undo = new Y.UndoManager(nodes, { captureTimeout: 0 })
  Y.applyUpdate(doc, Buffer.from(state, 'base64'), 'server')
  const before = Y.encodeStateVector(doc)
  for (const name of ['one', 'two', 'three', 'four']) nodes.get(node).set('name', name)
  if (undo.undoStack.length !== 4) throw new Error(`expected 4 edits to undo, got ${undo.undoStack.length}`)
  console.log(JSON.stringify(Buffer.from(Y.encodeStateAsUpdate(doc, before)).toString('base64')))
}
