// Writes the tables of docs/scaling.md by the formulas of src/distill/cost.ts and the measured steps of
// docs/scaling-rates.json: npm run docs:scaling
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const MODELS = [
  { name: "small", title: "GPT-2 small", n_layer: 12, n_head: 12, n_embd: 768 },
  { name: "medium", title: "medium", n_layer: 24, n_head: 16, n_embd: 1024 },
  { name: "large", title: "large", n_layer: 36, n_head: 20, n_embd: 1280 },
  { name: "xl", title: "XL", n_layer: 48, n_head: 25, n_embd: 1600 },
];
const TOKENS = [1e6, 1e7, 1e8, 1e9, 1e10];
/** Bytes of a token of text in the cache, and of GPT-2's English in a file. */
const BYTES_PER_ID = 2;

function makeConfig({ n_layer, n_head, n_embd }, variant) {
  return {
    ...{ n_layer, n_head, n_embd, n_inner: 4 * n_embd, n_positions: 1024, vocab_size: 50_257 },
    ...{ layer_norm_epsilon: 1e-5, activation: "gelu_tanh", scale_attn_weights: true },
    ...{ scale_attn_by_inverse_layer_idx: false, tied_head: true, bias: true, variant },
  };
}

/** A symmetric student and its dense teacher, which is what was measured. */
const makeRun = (model, length) => ({
  student: makeConfig(model, "symmetric"),
  teacher: makeConfig(model, "dense"),
  length,
});

/**
 * The page with its tables written anew between `<!-- NAME -->` and `<!-- end -->`.
 * @param cost the functions of cost.ts, and countParameters
 */
export function renderScaling(page, { places }, cost) {
  const tables = new Map([
    ["rates", renderRates(places, cost)],
    ["work", renderWork(places, cost)],
    ...places.flatMap((place) =>
      place.processors.map((count) => [`${place.name} ${count}`, renderTimes(place, count, cost)]),
    ),
    ["memory", renderMemory(places, cost)],
    ["disk", renderDisk(cost)],
  ]);
  const missing = new Set(tables.keys());
  const text = page.replace(/(<!-- ([^>]+) -->\n)[\s\S]*?(\n<!-- end -->)/g, (_, start, name, end) => {
    if (!missing.delete(name)) throw new Error(`docs/scaling.md: no table is called ${name}`);
    return `${start}\n${tables.get(name)}\n${end}`;
  });
  if (missing.size > 0) throw new Error(`docs/scaling.md: the table ${[...missing][0]} has no place`);
  return text;
}

function measure({ step: { model, ...rest } }) {
  return {
    ...makeRun(
      MODELS.find(({ name }) => name === model),
      rest.length,
    ),
    ...rest,
  };
}

function renderRates(places, { computeRate }) {
  const rows = places.map((place) => {
    const { batch, length, seconds, peakBytes } = place.step;
    const rate = formatOperations(computeRate(measure(place)));
    const tokens = formatThree((batch * length) / seconds);
    return [
      place.hardware,
      place.date,
      `${batch} × ${length}`,
      `${seconds} s`,
      `${rate}/s`,
      tokens,
      formatBytes(peakBytes),
    ];
  });
  const head = ["measured on", "date", "windows × tokens", "a step", "rate", "tokens/s", "peak"];
  return alignTable([head, ...rows], "lllrrrr");
}

function renderWork(places, { countTokenFlops, countParameters }) {
  const { length } = places[0].step;
  const rows = MODELS.map((model) => {
    const run = makeRun(model, length);
    const { student, teacher } = countTokenFlops(run);
    const parameters = [run.student, run.teacher].map((config) => `${formatThree(countParameters(config) / 1e6)} M`);
    return [model.title, ...parameters, ...[student, teacher, student + teacher].map(formatOperations)];
  });
  return alignTable(
    [["model", "student", "teacher", "the student's work", "the teacher's", "together"], ...rows],
    "lrrrrr",
  );
}

/** Hours and price of each model and number of tokens on `count` processors that share the work without loss. */
function renderTimes(place, count, { computeRate, countTokenFlops, estimateSeconds }) {
  const measured = measure(place);
  const rate = count * computeRate(measured);
  const rows = MODELS.map((model) => {
    const flops = countTokenFlops(makeRun(model, measured.length));
    const cells = TOKENS.map((tokens) => {
      const seconds = estimateSeconds(tokens, flops, rate);
      return `${formatSeconds(seconds)} (${formatMoney((seconds / 3600) * count * place.price)})`;
    });
    return [model.title, ...cells];
  });
  return alignTable([["model", ...TOKENS.map((tokens) => `${formatTokens(tokens)} tokens`)], ...rows], "lrrrrr");
}

function renderMemory(places, { estimateMemory }) {
  const head = ["model", ...places.map(({ name, step }) => `${name}, ${step.batch} × ${step.length}`)];
  const rows = MODELS.map((model) => [
    model.title,
    ...places.map((place) => {
      const measured = measure(place);
      return formatBytes(estimateMemory({ ...makeRun(model, measured.length), batch: measured.batch }, measured));
    }),
  ]);
  return alignTable([head, ...rows], "lrrr");
}

/** The run's folder holds weights, two moments and the best weights, a checkpoint beside the one that it replaces. */
function renderDisk({ countParameters }) {
  const rows = MODELS.map((model) => {
    const parameters = countParameters(makeConfig(model, "symmetric"));
    return [model.title, formatBytes(7 * 4 * parameters), formatBytes(4 * parameters)];
  });
  const ids = TOKENS.map((tokens) => `${formatTokens(tokens)} ${formatBytes(BYTES_PER_ID * tokens)}`).join(", ");
  return `${alignTable([["model", "while it runs", "the model"], ...rows], "lrr")}\n\nToken ids of a text, in the cache: ${ids}.`;
}

const formatThree = (value) =>
  value < 1000 ? String(Number(value.toPrecision(3))) : Math.round(value).toLocaleString("en");
const formatTokens = (tokens) => (tokens < 1e9 ? `${tokens / 1e6} M` : `${tokens / 1e9} G`);

function formatScaled(value, units) {
  const [unit, size] = units.findLast(([, size]) => value >= size) ?? units[0];
  return `${formatThree(value / size)} ${unit}`;
}
const formatOperations = (flops) =>
  formatScaled(flops, [
    ["GFLOP", 1e9],
    ["TFLOP", 1e12],
  ]);
const formatBytes = (bytes) =>
  formatScaled(bytes, [
    ["MB", 1e6],
    ["GB", 1e9],
    ["TB", 1e12],
  ]);
const formatSeconds = (seconds) =>
  formatScaled(seconds, [
    ["s", 1],
    ["min", 60],
    ["h", 3600],
    ["days", 86_400],
    ["years", 365.25 * 86_400],
  ]);
const formatMoney = (amount) => (amount < 0.1 ? "under 0.1" : formatThree(Number(amount.toPrecision(2))));

/** @param align of each column, "l" or "r" */
function alignTable([head, ...body], align) {
  const widths = head.map((_, c) => Math.max(...[head, ...body].map((row) => row[c].length)));
  const line = (row) =>
    `| ${row.map((cell, c) => (align[c] === "r" ? cell.padStart(widths[c]) : cell.padEnd(widths[c]))).join(" | ")} |`;
  const rule = `| ${widths.map((width, c) => (align[c] === "r" ? `${"-".repeat(width - 1)}:` : "-".repeat(width))).join(" | ")} |`;
  return [line(head), rule, ...body.map(line)].join("\n");
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const cost = await import("../dist/distill/cost.js");
  const { countParameters } = await import("../dist/model/parameters.js");
  const rates = JSON.parse(readFileSync("docs/scaling-rates.json", "utf8"));
  writeFileSync(
    "docs/scaling.md",
    renderScaling(readFileSync("docs/scaling.md", "utf8"), rates, { ...cost, countParameters }),
  );
}
