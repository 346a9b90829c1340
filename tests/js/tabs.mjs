// Browser tabs: stock y-websocket clients in one process, so that they share BroadcastChannel, driven by JSON lines.
//
//   {"open": NAME, "url": …, "document": …, "params": {…}, "bc": bool}   makes a tab and answers its client id
//   {"run": NAME, "code": …}    runs code with `doc`, `provider`, `awareness`, `tab`, `Y` and answers what it returns
//   {"wait": NAME, "code": …}   answers once the code returns something true
import { createInterface } from 'node:readline'
import WebSocket from 'ws'
import * as Y from 'yjs'
import { WebsocketProvider } from 'y-websocket'

const tabs = new Map()
const warnings = []
console.warn = text => warnings.push(String(text))

const open = ({ open: name, url, document, params, bc }) => {
  const doc = new Y.Doc()
  const provider = new WebsocketProvider(url, document, doc, {
    params, disableBc: !bc, WebSocketPolyfill: WebSocket, maxBackoffTime: 100
  })
  const tab = { doc, provider, awareness: provider.awareness, closed: null, warnings }
  provider.on('closed', closed => { tab.closed = closed })
  tabs.set(name, tab)
  return doc.clientID
}

const run = (name, code) => {
  const tab = tabs.get(name)
  return new Function('tab', 'doc', 'provider', 'awareness', 'Y', code)(tab, tab.doc, tab.provider, tab.awareness, Y)
}

const wait = (name, code) => new Promise(resolve => {
  const { doc, provider, awareness } = tabs.get(name)
  const look = () => { if (run(name, code)) resolve(true) }
  doc.on('afterTransaction', look)
  awareness.on('update', look)
  for (const event of ['status', 'synced', 'closed']) provider.on(event, look)
  look()
})

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line)
  const value = command.open ? open(command)
    : command.wait ? await wait(command.wait, command.code)
      : run(command.run, command.code)
  console.log(JSON.stringify(value === undefined ? null : value))
}
