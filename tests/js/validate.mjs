// Prints the Khronos validator's report on each file named on the command line, as one JSON array.
import { readFile } from "node:fs/promises";
import validator from "gltf-validator";

const reports = [];
for (const path of process.argv.slice(2)) {
  reports.push(await validator.validateBytes(new Uint8Array(await readFile(path)), { maxIssues: 100 }));
}
console.log(JSON.stringify(reports));
