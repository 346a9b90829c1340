// Rows of letters: everybody types at a given rate, or ever faster.

import { LAST_WAIT, SETTLE, closed, joinAll, measured, paced, participant, pause, until } from './pacing.mjs'
import { letter, letters } from './updates.mjs'
import { Waits } from './waits.mjs'

const SLOWEST = 10 // ops a second
const FASTER = 1.5
const CLOSE = 1.12 // the last rate that is sustained, and the first that is not, are so close
const DRAIN = 15000
const MOST_STEPS = 14

/** `rooms` × `writers` who type, and `readers` in each room who only read. */
class Typists {
  constructor (task) {
    const { rooms, writers, readers = 0 } = task
    this.others = writers + readers - 1
    this.sent = []
    this.waits = new Waits()
    this.expected = 0
    this.all = []
    this.writing = []
    const onUpdate = (client, update) => this.hear(client, update)
    for (let room = 0; room < rooms; room++) {
      for (let person = 0; person < writers + readers; person++) {
        const client = participant(task, `${task.run}-${room}`, this.all.length, { onUpdate })
        this.all.push(client)
        if (person < writers) {
          this.writing.push(client)
          this.sent[client.id] = []
        }
      }
    }
  }

  async join () {
    await joinAll(this.all)
    await pause(SETTLE)
  }

  hear (client, update) {
    const now = performance.now()
    letters(update, (id, clock) => {
      const time = id === client.id ? 0 : this.sent[id]?.[clock]
      if (time > 0) this.waits.add(now - time)
    })
  }

  type (number, measuring) {
    const client = this.writing[number]
    const clock = client.clock++
    this.sent[client.id].push(measuring ? performance.now() : 0)
    if (measuring) this.expected += this.others
    client.sendUpdate(letter(client.id, clock))
  }

  /** A round at `rate` letters a second each: how long they waited, and whether all of them came. */
  async round (rate, warmup, seconds) {
    const count = this.writing.length
    await paced(count, rate, warmup, number => this.type(number, false))
    const cost = await measured(seconds, () => paced(count, rate, seconds, number => this.type(number, true)))
    await until(() => this.waits.total >= this.expected, LAST_WAIT)
    const { expected, waits } = this
    return { ...waits.told(), ...cost, expected, delivered: waits.total, closed: closed(this.all) }
  }

  /** Forget the round before, when all of it has come. False when it does not come. */
  async drained () {
    await until(() => this.waits.total >= this.expected, DRAIN)
    const whole = this.waits.total >= this.expected
    this.waits = new Waits()
    this.expected = 0
    return whole
  }
}

/** One round at `rate`. */
export async function ops (task) {
  const typists = new Typists(task)
  await typists.join()
  return await typists.round(task.rate, task.warmup ?? 2, task.seconds)
}

/** Ever faster, from `begin` ops a second of all together: the highest rate with a p95 within `limit` ms, all delivered. */
export async function climb (task) {
  const typists = new Typists(task)
  await typists.join()
  const steps = []
  let reached = 0
  let failed = Infinity
  let rate = task.begin
  while (steps.length < MOST_STEPS) {
    const step = await typists.round(rate / typists.writing.length, 1, task.seconds)
    steps.push({ rate, ...step })
    if (step.p95 <= task.limit && step.delivered >= step.expected && step.kept >= 0.95) reached = rate
    else failed = rate
    if (step.closed || !await typists.drained()) break
    if (reached ? failed / reached < CLOSE : failed < SLOWEST) break
    rate = failed === Infinity ? rate * FASTER : reached ? Math.sqrt(reached * failed) : rate / 2
  }
  const over = steps.filter(step => step.rate === failed)
  return { reached, steps, load: over.at(-1)?.load ?? 0, closed: steps.at(-1).closed }
}
