// What is sent that is more than a letter or a message: the history of a paper, a scene. All made from a seed.

import * as Y from 'yjs'

/** Mulberry32. */
function seeded (seed) {
  return () => {
    seed = (seed + 0x6D2B79F5) | 0
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/** A text of `edits` single letters typed and deleted as in a paper (of 259,778: 182,315 and 77,463), ten in an update. */
export function paper (edits) {
  const random = seeded(7)
  const doc = new Y.Doc()
  doc.clientID = 1
  const text = doc.getText('text')
  const updates = []
  doc.on('update', update => updates.push(update))
  let place = 0
  for (let done = 0; done < edits; done += 10) {
    doc.transact(() => {
      if (random() < 0.05) place = Math.floor(random() * (text.length + 1))
      const deleting = random() < 0.298 && place >= 10
      if (deleting) {
        text.delete(place - 10, 10)
        place -= 10
      } else {
        text.insert(place, 'abcdefghi ')
        place += 10
      }
    })
  }
  return updates
}

/** A scene of `nodes` boxes, 100 in an update, some 400 bytes each. */
export function scene (nodes) {
  const random = seeded(9)
  const doc = new Y.Doc()
  doc.clientID = 1
  const updates = []
  doc.on('update', update => updates.push(update))
  for (let done = 0; done < nodes; done += 100) {
    doc.transact(() => {
      for (let number = done; number < Math.min(nodes, done + 100); number++) {
        const node = new Y.Map()
        const fields = {
          name: `box number ${number}`,
          type: 'mesh',
          place: [null, `a${String(number).padStart(6, '0')}V`],
          translation: [random() * 100, random() * 100, random() * 100],
          rotation: [0, 0, 0, 1],
          scale: [1 + random(), 1 + random(), 1 + random()],
          visible: true,
          locked: false,
          mesh: { shape: 'box', width: 1, height: 1, depth: 1 },
          extras: { note: 'x'.repeat(140) }
        }
        for (const [key, value] of Object.entries(fields)) node.set(key, value)
        doc.getMap('nodes').set(`node${String(number).padStart(7, '0')}`, node)
      }
    })
  }
  return updates
}

/** The clock behind the last struct in `updates`, all of client 1. */
export function end (updates) {
  return Math.max(...updates.slice(-1000).map(update => Y.parseUpdateMeta(update).to.get(1) ?? 0))
}

/** Client → clock of the whole state `update`. */
export function vector (update) {
  return Y.decodeStateVector(Y.encodeStateVectorFromUpdate(update))
}
