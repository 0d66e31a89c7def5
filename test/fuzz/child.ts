// One process of the fuzzer: runs a range of inputs of one target, notes which one it is at, and prints what it finds.
import { appendFileSync, openSync, writeSync } from "node:fs";
import { parseArgs } from "node:util";
import { runTarget } from "./run-target.ts";
import { findTarget } from "./targets.ts";

const { values } = parseArgs({
  options: {
    target: { type: "string", default: "" },
    seed: { type: "string", default: "1" },
    from: { type: "string", default: "0" },
    to: { type: "string", default: "1000" },
    seconds: { type: "string", default: "Infinity" },
    folder: { type: "string", default: "" },
    progress: { type: "string", default: "" },
    found: { type: "string", default: "" },
  },
});
// The number of the present input is written before it is tried: it is there to be read after a crash.
const progress = openSync(values.progress, "w");
await runTarget(findTarget(values.target), {
  ...{ seed: Number(values.seed), from: Number(values.from), to: Number(values.to), folder: values.folder },
  seconds: Number(values.seconds),
  watchMemory: true,
  onFinding: (finding) => appendFileSync(values.found, `${JSON.stringify(finding)}\n`),
  onInput: (index) => writeSync(progress, `${index}\n`.padStart(16), 0),
});
process.exit(0); // a command may have left threads of ONNX Runtime behind
