// Prints how far the losses and gradient norms of two runs are apart, step by step, relative to them or to 0.01: a KL that
// is nearly 0 is a difference of larger numbers.
// Usage: node bench/gpu/compare.mjs NAME metrics.jsonl metrics.jsonl
import { readFileSync } from "node:fs";
import { record } from "../figures.mjs";

const [name, ...files] = process.argv.slice(2);
const [own, other] = files.map((file) =>
  readFileSync(file, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line))
    .filter(({ loss }) => loss !== undefined),
);
const keys = ["loss", "nll", "kl", "noise_kl", "attention_kl", "grad_norm"];
const errors = own.flatMap((entry, step) =>
  keys.flatMap((key) => {
    const [a, b] = [entry[key], other[step]?.[key]];
    return a === undefined ? [] : [{ key, step: entry.step, error: Math.abs(a - b) / Math.max(Math.abs(a), 0.01) }];
  }),
);
const worst = errors.reduce((most, each) => (each.error <= most.error ? most : each));
console.log(
  `${name}: ${own.length} steps, largest relative difference ${worst.error.toExponential(1)} (${worst.key}, step ${worst.step})`,
);
record({ bench: "losses", form: name, steps: own.length, ...worst });
