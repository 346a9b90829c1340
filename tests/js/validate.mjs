// Reads paths of glTF files from stdin, one JSON string per line; prints the Khronos validator's report on each.
// No limit on issues: a report that stops at one leaves its counts out.
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import validator from "gltf-validator";

for await (const line of createInterface({ input: process.stdin })) {
  const data = new Uint8Array(await readFile(JSON.parse(line)));
  console.log(JSON.stringify(await validator.validateBytes(data, { maxIssues: 0 })));
}
