// Rows of what remains when a server dies: what was seen before, what is there after.

import { vector } from './contents.mjs'
import { joinAll, mark, paced, participant } from './pacing.mjs'
import { letter, letters } from './updates.mjs'

const ANOTHER = 900000

/** Letters at `rate` until the server dies: client id → how many of its letters somebody else had seen. */
export async function seen (task) {
  const { rooms, writers, rate } = task
  const seen = {}
  const onUpdate = (client, update) => letters(update, (id, clock) => {
    if (id !== client.id) seen[id] = Math.max(seen[id] ?? 0, clock + 1)
  })
  const all = Array.from({ length: rooms * writers }, (_, number) =>
    participant(task, `${task.run}-${Math.floor(number / writers)}`, number, { onUpdate }))
  await joinAll(all)
  mark('joined')
  await paced(all.length, rate, task.seconds, number => {
    const client = all[number]
    if (client.closed === null) client.sendUpdate(letter(client.id, client.clock++))
  })
  return { seen }
}

/** The letters of each client that the rooms of a `seen` before hold now. */
export async function held (task) {
  const found = {}
  for (let room = 0; room < task.rooms; room++) {
    const client = participant(task, `${task.run}-${room}`, ANOTHER + room)
    await client.join()
    for (const [id, clock] of vector(client.state)) found[id] = clock
    client.close()
  }
  return { found }
}
