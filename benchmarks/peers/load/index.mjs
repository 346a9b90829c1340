// The load generator: a task in a JSON file, named as argument. Lines on standard output: where it has come to, and at
// last what came of it, as JSON.

import { readFileSync } from 'node:fs'
import * as edits from './edits.mjs'
import * as joining from './joining.mjs'
import * as lasting from './lasting.mjs'
import * as people from './people.mjs'

const rows = { ...edits, ...people, ...joining, ...lasting }
const task = JSON.parse(readFileSync(process.argv[2], 'utf8'))
try {
  const told = await rows[task.row](task)
  process.stdout.write(`${JSON.stringify(told)}\n`, () => process.exit(0))
} catch (error) {
  process.stderr.write(`${error.stack}\n`, () => process.exit(1))
}
