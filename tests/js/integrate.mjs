// For each line, a list of updates in base64: what a fresh Yjs replica holds when it has applied them all.
import { createInterface } from 'node:readline'
import * as Y from 'yjs'

for await (const line of createInterface({ input: process.stdin })) {
  const doc = new Y.Doc()
  for (const update of JSON.parse(line)) {
    Y.applyUpdate(doc, Buffer.from(update, 'base64'))
    if (doc.store.pendingStructs || doc.store.pendingDs) throw new Error('expected nothing pending')
  }
  const state = Buffer.from(Y.encodeStateVector(doc)).toString('base64')
  console.log(JSON.stringify({ state, content: [doc.getText('text').toString(), doc.getArray('list').length] }))
}
