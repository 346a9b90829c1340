// Runs code of the README on a fresh document, given as a JSON string, and prints the nodes that it made.
import { createInterface } from 'node:readline'
import * as Y from 'yjs'

for await (const line of createInterface({ input: process.stdin })) {
  const doc = new Y.Doc()
  new Function('Y', 'doc', JSON.parse(line))(Y, doc)
  console.log(JSON.stringify(doc.getMap('nodes').toJSON()))
}
