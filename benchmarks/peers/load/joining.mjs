// Rows of coming and staying: documents are made, opened by one or by many, and kept open.

import { end, paper, scene, vector } from './contents.mjs'
import { closed, joinAll, mark, participant, pause, told, until } from './pacing.mjs'
import { begin, letter, letters } from './updates.mjs'
import { Waits, waitsOf } from './waits.mjs'

const TYPING_MS = 20
const AHEAD = 1000 // clocks under way: who sends more at once waits with its own pings behind all of it

/** Make a document (`nodes`, `edits` or `letters`, as in `contentOf`), until it is served; then wait `linger` ms. */
export async function fill (task) {
  const updates = contentOf(task)
  const author = participant(task, task.name, 0)
  await author.join()
  const begun = performance.now()
  let waited = 0
  for (const update of updates) {
    const clock = begin(update) ?? 0
    if (clock - waited > AHEAD) {
      await author.taken(clock)
      waited = clock
    }
    author.sendUpdate(update)
  }
  const state = await served(task, end(updates), author)
  const took = performance.now() - begun
  await pause(task.linger ?? 0)
  return { updates: updates.length, state: state.length, took }
}

/** What who joins gets, when that has all clocks of `author` up to `wanted`. */
async function served (task, wanted, author) {
  while (author.closed === null) {
    const reader = participant(task, task.name, 1)
    await reader.join()
    reader.close()
    if (vector(reader.state).get(author.id) >= wanted) return reader.state
    await pause(200)
  }
  throw new Error(`${task.name}: expected to fill it, closed with ${author.closed}`)
}

/** A scene of `nodes`, the `edits` of a paper, or `letters` one by one. */
function contentOf (task) {
  if (task.nodes) return scene(task.nodes)
  if (task.edits) return paper(task.edits)
  return Array.from({ length: task.letters }, (_, clock) => letter(1, clock))
}

/** `clients` who come to one document of `wanted` bytes at once, while a pair in another one types for `seconds`: how long each waits. */
export async function join (task) {
  const { clients, seconds = 0 } = task
  const waits = new Waits()
  const times = []
  const onUpdate = (client, update) => letters(update, (id, clock) => {
    if (times[clock] > 0) waits.add(performance.now() - times[clock])
  })
  const writer = participant(task, `${task.run}-beside`, 0)
  const reader = participant(task, `${task.run}-beside`, 1, { onUpdate })
  if (seconds) await joinAll([writer, reader])
  let going = true
  const typing = (async () => {
    while (seconds && going) {
      writer.sendUpdate(letter(1, times.push(performance.now()) - 1))
      await pause(TYPING_MS)
    }
  })()
  await pause(seconds ? 500 : 0)
  const all = Array.from({ length: clients }, (_, number) => participant(task, task.name, number + 2))
  const joins = await joinAll(all, clients, task.wanted)
  await pause(seconds * 500)
  going = false
  await typing
  await until(() => waits.total >= times.length, 5000)
  return { ...waitsOf(joins).told(), beside: waits.told(), closed: closed(all) }
}

/** `clients` in rooms of `perRoom` who do nothing until they are told to go. */
export async function idle (task) {
  const all = Array.from({ length: task.clients }, (_, number) =>
    participant(task, `${task.run}-${Math.floor(number / task.perRoom)}`, number))
  const joins = await joinAll(all, 50)
  mark('joined')
  await told()
  return { joins: waitsOf(joins).told(), closed: closed(all) }
}
