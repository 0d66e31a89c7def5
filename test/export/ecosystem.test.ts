// transformers.js runs an exported folder as it is: its greedy text is ours, and a padded batch is the single texts.
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { AutoModelForCausalLM, AutoTokenizer, env, pipeline, Tensor } from "@huggingface/transformers";
import { beforeAll, describe, expect, it } from "vitest";
import { loadTokenizer } from "../../src/checkpoint/tokenizer.ts";
import { chooseFile, openExportedModel } from "../../src/inference/exported/exported-model.ts";
import { Decoder } from "../../src/inference/generate/decoder.ts";
import { openFileSession } from "../../src/inference/model-session.ts";
import { type Precision, toTransformersJsDtype } from "../../src/model/precision.ts";
import { roundsWeights } from "../../src/model/quantization.ts";
import { exported, modelOf, TEXTLESS as PRECISIONS } from "../support/exported.ts";
import { converted, MODEL, opened, SHARED } from "../support/fixture.ts";
import { greedy, greedyOnnx, greedyOwn } from "../support/greedy.ts";
import { formOf } from "../support/narrow-models.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("ecosystem");
const TOKENS = 40;
/** Tokens of the decoder without cache: it reads the whole text for each. */
const OWN_TOKENS = 10;
const TEXTS = ["The old sailor watches", "A lantern in the harbour"] as const;

beforeAll(() => {
  mkdirSync(path("models"));
  env.allowRemoteModels = false;
  env.localModelPath = path("models/");
});

interface Generator {
  encode(text: string): number[];
  /** New tokens of each row. */
  generate(rows: readonly (readonly number[])[], tokens: number): Promise<number[][]>;
  close(): Promise<unknown>;
}

/** A folder below models/, loaded by transformers.js from disk. */
async function load(name: string, precision: Precision = "fp32"): Promise<Generator> {
  const tokenizer = await AutoTokenizer.from_pretrained(name);
  const model = await AutoModelForCausalLM.from_pretrained(name, { dtype: toTransformersJsDtype(precision) as "fp32" });
  return {
    encode: (text) => tokenizer.encode(text),
    close: () => model.dispose(),
    generate: async (rows, tokens) => {
      const length = Math.max(...rows.map((row) => row.length));
      const grid = (cell: (row: readonly number[], column: number) => number) => {
        const cells = rows.flatMap((row) => Array.from({ length }, (_, i) => cell(row, i - length + row.length)));
        return new Tensor("int64", BigInt64Array.from(cells, BigInt), [rows.length, length]);
      };
      const output = (await model.generate({
        input_ids: grid((row, column) => row[column] ?? 0),
        attention_mask: grid((_, column) => (column < 0 ? 0 : 1)),
        max_new_tokens: tokens,
        do_sample: false,
      } as Parameters<typeof model.generate>[0])) as Tensor;
      const [, width] = output.dims as [number, number];
      const ids = Array.from(output.data as BigInt64Array, Number);
      return rows.map((_, row) => ids.slice(row * width + length, (row + 1) * width));
    },
  };
}

const CASES = (["noise-distance", "symmetric", "pairwise", "low-rank"] as const).flatMap((variant) =>
  (["inline", "external"] as const).map((weights) => ({ variant, weights })),
);

describe.each(CASES)("transformers.js on $variant with weights $weights", ({ variant, weights }) => {
  const name = `${variant}-${weights}`;
  let source = "";
  let generator: Generator;

  beforeAll(async () => {
    source = await modelOf(variant, path(`source-${name}`));
    await exported(source, path("models", name), { weights });
    generator = await load(name);
    return () => generator.close();
  });

  it("transformers.js generates greedily the tokens of our own decoders", async () => {
    for (const text of TEXTS) {
      const ids = generator.encode(text);
      const [generated] = await generator.generate([ids], TOKENS);
      await opened(source, async (model) => {
        expect(ids).toEqual((await loadTokenizer(model.folder, model.config)).encode(text));
        const [cached] = await greedyOnnx(path("models", name, "onnx/model.onnx"), model, [ids], TOKENS);
        expect(generated).toEqual(cached);
        expect(generated).toHaveLength(TOKENS);
        // Several tokens, or the comparison would show little.
        expect(new Set(generated).size).toBeGreaterThan(2);
        expect(generated?.slice(0, OWN_TOKENS)).toEqual(await greedyOwn(model, ids, OWN_TOKENS));
      });
    }
  });

  it("a batch padded on the left gives the tokens of each text alone", async () => {
    const rows = TEXTS.map((text) => generator.encode(text));
    expect(new Set(rows.map((row) => row.length)).size).toBe(TEXTS.length);
    const single: number[][] = [];
    for (const row of rows) single.push(...(await generator.generate([row], TOKENS)));
    expect(await generator.generate(rows, TOKENS)).toEqual(single);
    await opened(source, async (model) => {
      const ours = await greedyOnnx(path("models", name, "onnx/model.onnx"), model, rows, TOKENS);
      expect(ours).toEqual(single);
    });
  });
});

describe.each([
  ["noise-distance", {}],
  ["low-rank", { qk: [8, 4], vo: [16, 8] }],
] as const)("transformers.js on every precision of %s", (variant, ranks) => {
  const name = `all-${variant}`;

  beforeAll(async () => {
    const source = path(`source-${name}`);
    await (variant === "low-rank" ? formOf(MODEL, source, { variant, ...ranks }) : modelOf(variant, source));
    await exported(source, path("models", name), { precisions: PRECISIONS });
  });

  it.each(PRECISIONS)(
    "transformers.js on the %s file writes what the file gives in nfc, alone and in a batch",
    async (precision) => {
      const generator = await load(name, precision);
      const model = await openExportedModel(path("models", name));
      const file = chooseFile(model, precision);
      const decoders = [new Decoder(await openFileSession(file, model.config, { threads: 1 }))];
      // nfc's own graph adds in another order, which may take an activation of 8 bits to its next code.
      if (!roundsWeights(precision)) decoders.push(await Decoder.ofFile(file, model.config, { threads: 1 }));
      const rows = TEXTS.map((text) => generator.encode(text));
      for (const prompts of [rows.slice(0, 1), rows]) {
        const written = await generator.generate(prompts, TOKENS);
        for (const decoder of decoders) expect(written).toEqual(await greedy(decoder, prompts, TOKENS));
      }
      for (const decoder of decoders) await decoder.close();
      await generator.close();
    },
  );
});

const base = join(SHARED, "models/base");

describe.skipIf(!existsSync(base))("transformers.js on a trained model that was tied", () => {
  it("transformers.js on a trained model writes the text of our own decoders", async () => {
    const source = path("base-tied");
    await converted({ output: source, variant: "noise-distance", strategy: "mean" }, base);
    await exported(source, path("models/base"));
    const write = await pipeline("text-generation", "base", { dtype: "fp32" });
    const prompt = "The history of the city";
    const [written] = await write(prompt, { max_new_tokens: TOKENS, do_sample: false });
    await opened(source, async (model) => {
      const tokenizer = await loadTokenizer(model.folder, model.config);
      const ids = tokenizer.encode(prompt);
      const [cached] = await greedyOnnx(path("models/base/onnx/model.onnx"), model, [ids], TOKENS);
      expect((written as { generated_text: string }).generated_text).toBe(
        tokenizer.decode([...ids, ...(cached as number[])]),
      );
      expect(cached?.slice(0, 3)).toEqual(await greedyOwn(model, ids, 3));
    });
    await write.dispose();
  });
});
