// Answers each JSON line with itself: what the tests of tests/support/node.py talk to.
import { createInterface } from 'node:readline'

for await (const line of createInterface({ input: process.stdin })) {
  const value = JSON.parse(line)
  if (value === 'fail') throw new Error('failed as asked')
  console.log(JSON.stringify(value))
}
