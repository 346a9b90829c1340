// Rows of people: where they point, what they drag, what they say.

import { LAST_WAIT, SETTLE, closed, joinAll, measured, paced, participant, pause, until } from './pacing.mjs'
import { letter, letters, message, states } from './updates.mjs'
import { Waits, waitsOf } from './waits.mjs'

const EDITS = 5 // a second, of each who types beside the cursors
const MARK = 'mQ'

/** `clients` in one room who move a cursor; `sampled` of them look at what the others do, `writers` type too. */
class Crowd {
  constructor (task) {
    const { clients, sampled = 20, writers = 0 } = task
    this.state = task.state ?? {}
    this.shown = new Waits()
    this.gaps = new Waits() // between two moves of the same person on the same screen
    this.edits = new Waits()
    this.moved = []
    this.typed = []
    this.measuring = false
    const hearing = {
      onAwareness: (client, update) => this.see(client, update),
      onUpdate: (client, update) => this.read(client, update)
    }
    const room = task.name ?? `${task.run}-presence`
    this.all = Array.from({ length: clients }, (_, number) => participant(task, room, number, number < sampled ? hearing : {}))
    this.looking = this.all.slice(0, sampled)
    this.typing = this.all.slice(clients - writers)
    for (const client of this.all) this.moved[client.id] = []
    for (const client of this.looking) client.seen = []
    for (const client of this.typing) this.typed[client.id] = []
  }

  async join () {
    await joinAll(this.all)
    for (const client of this.all.slice(this.looking.length)) client.turnDeaf()
    await pause(SETTLE)
  }

  see (client, update) {
    const now = performance.now()
    states(update, (id, clock, text) => {
      const place = /"n":(\d+)/.exec(text)
      const time = place && id !== client.id ? this.moved[id]?.[Number(place[1])] : 0
      if (!(time > 0) || client.seen[id] === time) return
      this.shown.add(now - time)
      if (client.seen[id]) this.gaps.add(now - client.seenAt[id])
      client.seen[id] = time
      client.seenAt ??= []
      client.seenAt[id] = now
    })
  }

  read (client, update) {
    const now = performance.now()
    letters(update, (id, clock) => {
      const time = this.typed[id]?.[clock]
      if (time > 0) this.edits.add(now - time)
    })
  }

  move (number) {
    const client = this.all[number]
    const step = this.moved[client.id].push(this.measuring ? performance.now() : 0) - 1
    const user = { name: `person ${client.id}`, color: '#808080' }
    client.sendAwareness(step + 1, { user, cursor: [0.5 + step, 0.25, number], n: step, ...this.state })
  }

  type (number) {
    const client = this.typing[number]
    this.typed[client.id].push(this.measuring ? performance.now() : 0)
    client.sendUpdate(letter(client.id, client.clock++))
  }

  /** Type for `seconds`, and move `rate` times a second meanwhile. */
  async go (seconds, rate) {
    const acts = [
      rate ? paced(this.all.length, rate, seconds, number => this.move(number)) : null,
      this.typing.length ? paced(this.typing.length, EDITS, seconds, number => this.type(number)) : null
    ]
    await Promise.all(acts)
  }
}

/** Cursors at `rate` a second; edits are measured before anybody moves, and while they do. */
export async function presence (task) {
  const crowd = new Crowd(task)
  await crowd.join()
  await crowd.go(1, 0)
  crowd.measuring = true
  if (task.writers) await crowd.go(task.seconds, 0)
  await pause(task.writers ? 500 : 0)
  const quiet = crowd.edits.told()
  crowd.edits = new Waits()
  crowd.measuring = false
  await crowd.go(2, task.rate)
  crowd.measuring = true
  const cost = await measured(task.seconds, () => crowd.go(task.seconds, task.rate))
  crowd.measuring = false
  await pause(1000)
  const seen = task.clients * task.rate * task.seconds * crowd.looking.length * (1 - 1 / task.clients)
  const { shown, gaps, edits } = crowd
  return {
    ...shown.told(), ...cost, part: shown.total / seen, gap: gaps.told().p95, edits: edits.told(), quiet, closed: closed(crowd.all)
  }
}

/** `people` in rooms of `perRoom`, who each send a message every `every` seconds: from sending to one's own echo. */
export async function chat (task) {
  const { people, perRoom, every, seconds, warmup } = task
  const waits = new Waits()
  const sent = new Map()
  const onUpdate = (client, update) => {
    const now = performance.now()
    for (let place = update.indexOf(MARK); place >= 0; place = update.indexOf(MARK, place + 11)) {
      const id = update.latin1Slice(place, place + 11)
      const said = sent.get(id)
      if (said?.client !== client) continue
      sent.delete(id)
      if (said.at > 0) waits.add(now - said.at)
    }
  }
  const all = Array.from({ length: people }, (_, number) =>
    participant(task, `${task.run}-${Math.floor(number / perRoom)}`, number, { onUpdate }))
  const joins = await joinAll(all)
  await pause(SETTLE)
  let measuring = false
  let expected = 0
  const say = number => {
    const client = all[number]
    const count = client.clock++
    const id = `${MARK}${String(number).padStart(5, '0')}${String(count).padStart(4, '0')}`
    sent.set(id, { client, at: measuring ? performance.now() : 0 })
    if (measuring) expected += 1
    client.sendUpdate(message(client.id, count, id, `person${number}`, Date.now()))
  }
  await paced(people, 1 / every, warmup, say)
  measuring = true
  const cost = await measured(seconds, () => paced(people, 1 / every, seconds, say))
  measuring = false
  await until(() => waits.total >= expected, LAST_WAIT)
  return { ...waits.told(), ...cost, expected, delivered: waits.total, joins: waitsOf(joins).told(), closed: closed(all) }
}
