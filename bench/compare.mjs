// Compares the ratios of a benchmark with those of a baseline, and says which got worse.

import { readFileSync } from "node:fs";

/** A ratio that is larger by more than this share is a regression. */
const TOLERANCE = 0.15;

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // said by the caller, with the file's name
  }
}

/**
 * What a baseline keeps of a run: ratios, no seconds.
 * @param run `results` are {name, reference, pairs: [{seconds, reference}]}
 */
export function makeBaseline({ machine, date, size, runs, results }) {
  const ratios = results.map(({ name, reference, pairs }) => [name, { reference, ratio: computeRatio(pairs) }]);
  return { machine, date, size, runs, ratios: Object.fromEntries(ratios) };
}

/** @throws Error for a file that is not there, or is no baseline */
export function readBaseline(file) {
  const baseline = parse(readFileSync(file, "utf8"));
  if (typeof baseline?.ratios !== "object" || typeof baseline.machine !== "object" || typeof baseline.size !== "string")
    throw new Error(`${file}: is no baseline, which npm run bench -- --save FILE writes`);
  return baseline;
}

/** A baseline in which a part was measured anew. @throws Error for one of another machine or size */
export function mergeBaselines(old, part) {
  if (old.size !== part.size || describe(old.machine) !== describe(part.machine))
    throw new Error(`the baseline is of GPT-2 ${old.size} on ${describe(old.machine)}: save to another file`);
  return { ...part, ratios: { ...old.ratios, ...part.ratios } };
}

/** The shortest time over the shortest of the reference: what else ran on the machine made both longer. */
export function computeRatio(pairs) {
  const best = (key) => Math.min(...pairs.map((pair) => pair[key]));
  return Number((best("seconds") / best("reference")).toFixed(3));
}

/**
 * Lines that show each ratio beside the baseline's, and the names of those that got worse.
 * @param isPart whether the run left out cases on purpose
 */
export function compareWithBaseline(baseline, current, isPart = false) {
  if (baseline.size !== current.size)
    throw new Error(`the baseline is of GPT-2 ${baseline.size}, this run of ${current.size}`);
  const lines = [];
  const worse = [];
  for (const [name, { reference, ratio }] of Object.entries(current.ratios)) {
    const old = baseline.ratios[name];
    if (old === undefined || old.reference !== reference) {
      lines.push(`${name}: ${ratio} × ${reference}, not in the baseline`);
      continue;
    }
    const change = ratio / old.ratio - 1;
    const isWorse = change > TOLERANCE;
    if (isWorse) worse.push(name);
    const percent = `${change < 0 ? "−" : "+"}${Math.abs(100 * change).toFixed(0)} %`;
    lines.push(`${name}: ${ratio} × ${reference}, baseline ${old.ratio}, ${percent}${isWorse ? ", worse" : ""}`);
  }
  if (!isPart)
    for (const name of Object.keys(baseline.ratios).filter((name) => !(name in current.ratios))) {
      lines.push(`${name}: in the baseline, not measured`);
      worse.push(name);
    }
  return { lines, worse, isSameMachine: describe(baseline.machine) === describe(current.machine) };
}

export const describe = ({ cpu, cores, node }) => `${cores} × ${cpu}, Node ${node}`;
