// Who comes, in which rhythm they act, and what that costs the load generator itself.

import { Client } from './client.mjs'

export const SETTLE = 1000
export const LAST_WAIT = 5000
const JOINING_AT_ONCE = 20

export const pause = ms => new Promise(resolve => setTimeout(resolve, ms))

/** Tell who started the load that it has come to `name`. */
export function mark (name) {
  process.stdout.write(`{"mark": "${name}"}\n`)
}

/** Resolves when who started the load says go on. */
export const told = () => new Promise(resolve => process.stdin.once('data', resolve))

/** Where the participant `number` goes: `task.path` says how the server names the room, `task.queries` who comes. */
function address (task, room, number) {
  const query = task.queries.length ? task.queries[number % task.queries.length] : ''
  return { dialect: task.dialect, url: task.url, room: task.path.replace('{room}', room), query }
}

/** Participant `number` of the load, in `room`. */
export function participant (task, room, number, hearing) {
  return new Client(address(task, room, number), number + 1, hearing)
}

/** Let `clients` join, `atOnce` at a time, each until it has `wanted` bytes; how long each took. */
export async function joinAll (clients, atOnce = JOINING_AT_ONCE, wanted = 0) {
  const waits = []
  const left = clients.values()
  const worker = async () => {
    for (const client of left) waits.push(await client.join(wanted))
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
  return waits
}

/** Calls `act(number)` for each of `count` at `rate` per second, evenly spread, until `seconds` are over: ms it took. */
export async function paced (count, rate, seconds, act) {
  const begun = performance.now()
  const each = 1000 / (count * rate)
  const all = Math.round(count * rate * seconds)
  for (let done = 0; done < all;) {
    const due = Math.min(all, Math.floor((performance.now() - begun) / each))
    for (; done < due; done++) act(done % count)
    await pause(1)
  }
  return performance.now() - begun
}

/** Run `work` between two marks; `{took, kept, load}`: ms, the part of the pace that was kept, the load's own processor. */
export async function measured (seconds, work) {
  mark('measuring')
  const before = process.cpuUsage()
  const begun = performance.now()
  await work()
  const took = performance.now() - begun
  const { user, system } = process.cpuUsage(before)
  mark('measured')
  return { took, kept: Math.min(1, seconds * 1000 / took), load: (user + system) / 1000 / took }
}

/** Resolves when `holds()`, or after `ms`. */
export async function until (holds, ms) {
  const deadline = performance.now() + ms
  while (!holds() && performance.now() < deadline) await pause(10)
}

export function closed (all) {
  return all.filter(client => client.closed !== null).length
}
