// The vocabulary as an axis of a plan: losses for a token of the source, which texts count, and plans that go on.
import { readFileSync, writeFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { type Checkpoint, openCheckpoint } from "../../../src/checkpoint/checkpoint.ts";
import { loadTokenizer } from "../../../src/checkpoint/tokenizer.ts";
import { AXES } from "../../../src/convert/plan/axes.ts";
import { makePlanBlocks } from "../../../src/convert/plan/plan-blocks.ts";
import { type Plan, type PlanMeasurement, readPlan } from "../../../src/convert/plan/plan-file.ts";
import { type PlanOptions, planModel } from "../../../src/convert/plan/plan-model.ts";
import { computeLogits } from "../../../src/inference/layerwise.ts";
import { renderText } from "../../../src/report/render/text.ts";
import { converted, MODEL, opened, TEXT } from "../../support/fixture.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("vocabulary-axis");
const WHOLE = readFileSync(TEXT, "utf8");
const write = (name: string, text: string): [string] => {
  writeFileSync(path(name), text);
  return [path(name)];
};
const END = WHOLE.slice(-2000);
const HELD_OUT = write("held-out.txt", END);
/** The same words in another order: a text of the kind that is measured on. */
const WORDS = write("words.txt", END.split("\n").reverse().join("\n"));
const LENGTH = 64;
const only = (...names: string[]) => AXES.filter(({ name }) => names.includes(name));
let count = 0;

function plan(options: Partial<PlanOptions> = {}, model = MODEL): Promise<Plan> {
  const texts = { calibration: [TEXT] as [string], calibrationTokens: 512, heldOut: HELD_OUT, vocabularyText: WORDS };
  const axes = only("vocab");
  return opened(model, (checkpoint) =>
    planModel(checkpoint, { file: path(`plan-${count++}.json`), axes, threads: 1, ...texts, ...options }),
  );
}

/** ln softmax of a row at one place, in float64. */
function takeLogProbability(row: Float32Array, label: number): number {
  const most = row.reduce((a, b) => Math.max(a, b));
  return (row[label] as number) - most - Math.log(row.reduce((sum, value) => sum + Math.exp(value - most), 0));
}

/** Nats of a text in windows, those of their first tokens taken as the mean of the others, by the model's own tokenizer. */
async function sumNats(model: Checkpoint, text: string): Promise<{ nats: number; tokens: number }> {
  const ids = (await loadTokenizer(model.folder, model.config)).encode(text);
  let [sum, scored] = [0, 0];
  for (let at = 0; at + 1 < ids.length; at += LENGTH) {
    const window = Int32Array.from(ids.slice(at, at + LENGTH));
    const logits = await computeLogits(model, [window], { threads: 1 });
    const width = model.config.vocab_size;
    for (let t = 0; t + 1 < window.length; t++, scored++)
      sum -= takeLogProbability(logits.subarray(t * width, (t + 1) * width), window[t + 1] as number);
  }
  return { nats: (sum / scored) * ids.length, tokens: ids.length };
}

const models = ({ measurements }: Plan) => measurements as [PlanMeasurement, ...PlanMeasurement[]];

describe("a plan with the vocabulary", () => {
  let made: Plan;
  beforeAll(async () => {
    made = await plan({ axes: only("mlp", "vocab"), floor: 0.7, file: path("both.json") });
  });

  it("tries all tokens that the text uses first, then shares of the vocabulary", () => {
    const { vocabulary, axes } = made;
    expect(vocabulary).toMatchObject({ files: WORDS, from: 384, least: 257 });
    expect(vocabulary?.used).toBeGreaterThan(288);
    expect(vocabulary?.used).toBeLessThan(384);
    expect(axes.find(({ name }) => name === "vocab")?.values).toEqual([vocabulary?.used, 288]);
  });

  it("walks a path over it and another axis, and each model is smaller by the rows that are gone", () => {
    expect(made.steps.map(({ axis }) => axis)).toContain("vocab");
    expect(made.complete).toBe(true);
    const [source, ...others] = models(made);
    for (const { cuts, parameters, bytes } of others.filter(({ cuts }) => Object.keys(cuts).join() === "vocab")) {
      expect(parameters).toBe(source.parameters - 64 * (384 - (cuts.vocab as number)));
      expect(bytes.fp32).toBeLessThan(source.bytes.fp32);
    }
  });

  it("says for what text the models are, and what a perplexity counts for", () => {
    const text = renderText(makePlanBlocks(made));
    expect(text).toMatch(/^vocab \d+ /m);
    expect(text).toContain(`the vocabulary is cut to what ${WORDS} uses (${made.vocabulary?.used} of 384 tokens`);
    expect(text).toContain("perplexities are for a token of the source");
  });

  it("a perplexity is exp(total nats of the bytes / tokens of the source), as another forward pass has them", async () => {
    const text = readFileSync(HELD_OUT[0], "utf8");
    const [source, ...others] = models(made);
    const own = await opened(MODEL, (model) => sumNats(model, text));
    expect(source.perplexity).toBeCloseTo(Math.exp(own.nats / own.tokens), 4);
    for (const { cuts, perplexity } of others.filter(({ cuts }) => Object.keys(cuts).join() === "vocab")) {
      const output = path(`cut-${cuts.vocab}`);
      await converted({ output, variant: "dense", vocabulary: { text: WORDS, size: cuts.vocab } });
      const { nats, tokens } = await opened(output, (model) => sumNats(model, text));
      if (cuts.vocab === 288) expect(tokens).toBeGreaterThan(1.05 * own.tokens);
      expect(Math.log(perplexity)).toBeCloseTo(nats / own.tokens, 4);
    }
  });

  it("the divergence of a vocabulary alone is the difference of the nats, and errors are of windows at the same bytes", () => {
    const [source, ...others] = models(made);
    for (const { cuts, kl, perplexity, error, klError } of others.filter((each) => "vocab" in each.cuts)) {
      const difference = Math.log(perplexity / source.perplexity);
      if (Object.keys(cuts).length === 1) {
        expect(kl).toBeCloseTo(difference, 5);
        expect(klError).toBeCloseTo(error ?? Number.NaN, 5);
      }
      expect(error).toBeGreaterThan(0);
      if (cuts.vocab === 288) expect(error).toBeLessThan(0.5 * difference);
    }
  });
});

describe("the text of the vocabulary", () => {
  it("does not count where models are measured on it", async () => {
    const text = write("both.txt", `${WHOLE.slice(0, 700)}\nThe old anchor of David is heavy.\n`);
    const first = { heldOutTokens: 128 }; // of the text's 200
    const seen = await plan({ vocabularyText: text, ...first });
    const apart = await plan({ vocabularyText: text, heldOut: text, ...first });
    expect(apart.vocabulary?.used).toBeLessThan(seen.vocabulary?.used as number);
    await expect(plan({ vocabularyText: HELD_OUT, heldOut: HELD_OUT })).rejects.toMatchObject({
      code: "usage",
      hint: expect.stringContaining("besides what is measured on"),
    });
  });

  it("that uses all tokens leaves shares of them to cut, and says so", async () => {
    const made = await plan({ vocabularyText: [TEXT] });
    expect(made.vocabulary?.used).toBe(384);
    expect(made.axes).toEqual([{ name: "vocab", values: [288] }]);
    expect(renderText(makePlanBlocks(made))).toContain("uses (all 384 tokens, and 257 stay in any case)");
  });

  it("that uses all tokens of a model which needs them all leaves nothing to cut", async () => {
    const folder = path("least");
    await converted({ output: folder, variant: "dense", vocabulary: { text: WORDS, size: 257 } });
    await expect(plan({}, folder)).rejects.toMatchObject({
      code: "usage",
      message: expect.stringContaining("uses all 257 tokens, and 257 stay in any case: nothing is left to cut"),
    });
  });

  it("may not be token ids", async () => {
    const ids = path("ids.bin");
    writeFileSync(ids, Buffer.from(Uint16Array.from({ length: 3000 }, (_, i) => i % 300).buffer));
    await expect(plan({ vocabularyText: [ids] })).rejects.toMatchObject({
      code: "usage",
      message: expect.stringContaining("holds token ids"),
    });
  });
});

describe("a plan that goes on", () => {
  const axes = only("mlp");
  const short = { floor: 0.9 };

  it("with the vocabulary measures what is missing; without it again, its measurements stay", async () => {
    const file = path("goes-on.json");
    const first = await plan({ file, axes, vocabularyText: undefined, ...short });
    expect(first).not.toHaveProperty("vocabulary");
    const second = await plan({ file, axes: only("mlp", "vocab"), ...short });
    expect(second.measurements.slice(0, first.measurements.length)).toEqual(first.measurements);
    expect(second.measurements.length).toBeGreaterThan(first.measurements.length);
    const third = await plan({ file, axes, vocabularyText: undefined, ...short });
    expect(third.measurements).toEqual(second.measurements);
    expect(third.vocabulary).toEqual(second.vocabulary);
    const other = write("other-words.txt", WHOLE.slice(700, 1400));
    await expect(plan({ file, axes: only("mlp", "vocab"), vocabularyText: other })).rejects.toMatchObject({
      code: "exists",
    });
    expect(await readPlan(file)).toEqual(third);
  });

  it("from the middle has the numbers of one that was not interrupted", async () => {
    const file = path("middle.json");
    const whole = await plan({ file });
    const rest = whole.measurements.slice(0, 2);
    writeFileSync(file, JSON.stringify({ ...whole, measurements: rest, steps: [], complete: false }));
    const again = await plan({ file });
    const strip = ({ measurements }: Plan) => measurements.map(({ seconds, ...figures }) => figures);
    expect(strip(again)).toEqual(strip(whole));
    expect(again.steps).toEqual(whole.steps);
  });
});

it("without a text the vocabulary is no axis", async () => {
  const model = await openCheckpoint(MODEL);
  try {
    const texts = { calibration: [TEXT] as [string], calibrationTokens: 512, heldOut: HELD_OUT };
    const made = await planModel(model, { ...texts, file: path("default.json"), floor: 0.99, threads: 1 });
    expect(made.axes.map(({ name }) => name)).toEqual(["qk-rank", "vo-rank", "mlp", "layers"]);
  } finally {
    await model.close();
  }
});
