// Sessions of real Yjs replicas that edit at random, for the tests of the reader.
// For each line {seed, steps, halves}: one line per session with the updates that a server would be sent, what
// Y.decodeUpdate says of each, and every item of the replica that holds all of them, with parent, key and deletion.
// `halves` lets edits split surrogate pairs, as an input field that compares UTF-16 units does.
import { createInterface } from 'node:readline'
import * as Y from 'yjs'

const WORDS = ['secret ', 'secret😀', 'sécrét', '😀😁', 'x']
const KEYS = ['name', 'place', 'größe']
const base64 = bytes => Buffer.from(bytes).toString('base64')

// Mulberry32: the same numbers for the same seed on every machine
const randomFrom = seed => () => {
  seed = (seed + 0x6D2B79F5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}

class Replica {
  constructor (client, gc, random, halves) {
    this.doc = new Y.Doc({ gc })
    this.doc.clientID = client
    this.halves = halves
    this.below = n => Math.floor(random() * n)
    this.pick = list => list[this.below(list.length)]
    this.map = this.doc.getMap('map')
    this.list = this.doc.getArray('list')
    this.text = this.doc.getText('text')
    this.page = this.doc.getXmlFragment('page')
    this.undo = new Y.UndoManager([this.map, this.list, this.text], { captureTimeout: 0 })
    this.made = []
    this.doc.on('update', (update, _origin, _doc, transaction) => { if (transaction.local) this.made.push(update) })
  }

  maps () { return [this.map, ...[...this.map.values()].filter(value => value instanceof Y.Map)] }
  lists () { return [this.list, ...[...this.map.values()].filter(value => value instanceof Y.Array)] }
  texts () { return [this.text, ...[...this.map.values()].filter(value => value instanceof Y.Text)] }

  value () {
    return this.pick([
      () => null, () => true, () => this.below(1e9), () => -this.below(200), () => Math.PI * this.below(9), () => this.pick(WORDS),
      () => [1, [this.pick(WORDS)], {}], () => ({ a: { b: undefined }, big: -(2n ** 62n) }), () => new Uint8Array([1, 2, 255])
    ])()
  }

  nested () {
    return this.pick([
      () => { const map = new Y.Map(); map.set('inner', 'secret'); map.set('deep', new Y.Map()); return map },
      () => Y.Array.from([1, 'secret']),
      () => new Y.Text('secret')
    ])()
  }

  // a place in a text that does not split a surrogate pair, unless that is asked for
  place (text) {
    const string = text.toString()
    let at = this.below(string.length + 1)
    if (string.length === text.length && !this.halves && /[\uDC00-\uDFFF]/.test(string[at] ?? '')) at++
    return string.length === text.length ? at : 0
  }

  edit () {
    this.pick([
      () => this.pick(this.maps()).set(this.pick(KEYS), this.value()),
      () => this.pick(this.maps()).set(this.pick(KEYS), this.value()),
      () => this.pick(this.maps()).set(this.pick(KEYS), this.nested()),
      () => this.pick(this.maps()).delete(this.pick(KEYS)),
      () => { const list = this.pick(this.lists()); list.insert(this.below(list.length + 1), [this.value(), this.nested(), this.value(), this.value()]) },
      () => { const list = this.pick(this.lists()); const at = this.below(list.length + 1); list.delete(at, this.below(list.length - at + 1)) },
      () => { const text = this.pick(this.texts()); text.insert(this.place(text), this.pick(WORDS)) },
      () => { const text = this.pick(this.texts()); text.insert(this.place(text), this.pick(WORDS), { bold: true, link: 'secret' }) },
      () => {
        const text = this.pick(this.texts())
        const [start, end] = [this.place(text), this.place(text)].sort((a, b) => a - b)
        text.delete(start, end - start)
      },
      () => { const text = this.pick(this.texts()); text.format(0, this.place(text), { italic: this.pick([true, null]) }) },
      () => this.text.insertEmbed(0, { image: 'secret' }),
      () => {
        const element = new Y.XmlElement('p')
        element.setAttribute('class', 'secret')
        element.insert(0, [new Y.XmlText('secret'), new Y.XmlElement('br')])
        this.page.insert(this.below(this.page.length + 1), [element])
      },
      () => { if (this.page.length) this.page.delete(this.below(this.page.length)) }
    ])()
  }

  act () {
    const chance = this.below(10)
    if (chance === 0) this.undo.undo()
    else if (chance === 1) this.undo.redo()
    else this.doc.transact(() => { for (let i = 0; i < this.pick([1, 1, 1, 3]); i++) this.edit() }, chance < 8 ? null : 'other')
  }

  // what it sends: its edits, or merged to one, or all that it has (a reconnect), or the difference to an old state
  news (all) {
    const made = this.made.splice(0)
    const chance = this.below(8)
    if (all || chance === 0) return [Y.encodeStateAsUpdate(this.doc)]
    if (chance === 1 && made.length) return [Y.mergeUpdates(made)]
    if (chance === 2 && made.length > 2) return [Y.mergeUpdates(made.filter((_, nth) => nth !== 1)), made[1]]
    if (chance === 3 && this.halves) return [Y.diffUpdate(Y.encodeStateAsUpdate(this.doc), this.half())]
    return made
  }

  // a state vector that knows a random part of each client's clocks, also up to the middle of a character
  half () {
    const state = new Map([...Y.decodeStateVector(Y.encodeStateVector(this.doc))].map(([client, clock]) => [client, this.below(clock + 1)]))
    const early = new Y.Doc()
    state.forEach((clock, client) => { if (clock) early.store.clients.set(client, [new Y.GC(Y.createID(client, 0), clock)]) })
    return Y.encodeStateVector(early)
  }
}

const id = id => id && [id.client, id.clock]
const parentOf = parent => parent instanceof Y.ID ? id(parent) : parent
const described = update => {
  const { structs, ds } = Y.decodeUpdate(update)
  return {
    structs: structs.map(struct => [
      struct.id.client, struct.id.clock, struct.length, struct instanceof Y.GC ? 0 : struct instanceof Y.Skip ? 10 : struct.content.getRef(),
      id(struct.origin ?? null), id(struct.rightOrigin ?? null), parentOf(struct.parent ?? null), struct.parentSub ?? null
    ]),
    deletes: [...ds.clients].map(([client, items]) => [client, items.map(item => [item.clock, item.len])])
  }
}

const items = doc => {
  const names = new Map([...doc.share].map(([name, type]) => [type, name]))
  const place = parent => parent === null ? null : parent._item ? id(parent._item.id) : names.get(parent)
  return [...doc.store.clients].flatMap(([client, structs]) => structs.map(struct => [
    client, struct.id.clock, struct.length, struct instanceof Y.Item ? place(struct.parent) : null, struct.parentSub ?? null, struct.deleted
  ]))
}

for await (const line of createInterface({ input: process.stdin })) {
  const { seed, steps, halves } = JSON.parse(line)
  const random = randomFrom(seed)
  const replicas = [5 + seed % 90, 2 ** 31 + seed, 2 ** 32 - 1 - seed].map((client, nth) => new Replica(client, nth !== 1, random, halves))
  const { below, pick } = replicas[0]
  const sent = []
  for (let step = 0; step < steps; step++) {
    const author = pick(replicas)
    author.act()
    if (below(4) === 0) Y.applyUpdate(pick(replicas).doc, Y.encodeStateAsUpdate(author.doc))
    if (below(3)) sent.push(...author.news(false))
  }
  replicas.forEach(replica => sent.push(...replica.news(true)))
  const server = new Y.Doc({ gc: false })
  sent.forEach(update => Y.applyUpdate(server, update))
  if (server.store.pendingStructs || server.store.pendingDs) throw new Error('expected nothing pending')
  replicas.forEach(replica => { for (const name of replica.doc.share.keys()) server.get(name) })
  console.log(JSON.stringify({
    updates: sent.map(update => ({ data: base64(update), ...described(update) })),
    items: items(server),
    state: base64(Y.encodeStateVector(server)),
    content: [server.getText('text').toString(), server.getArray('list').length]
  }))
}
