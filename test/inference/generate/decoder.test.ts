// The decoder with its cache: our forward pass in one piece or in several, batches, rows that leave, checkpoints.
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Tensor, Tensors } from "../../../src/graph/session.ts";
import { chooseFile, type ExportedModel, openExportedModel } from "../../../src/inference/exported/exported-model.ts";
import { Decoder } from "../../../src/inference/generate/decoder.ts";
import { computeLogits } from "../../../src/inference/layerwise.ts";
import { type ModelSession, openFileSession } from "../../../src/inference/model-session.ts";
import { exported, modelOf } from "../../support/exported.ts";
import { failureOf } from "../../support/failure.ts";
import { opened } from "../../support/fixture.ts";
import { greedy, greedyOnnx, greedyOwn } from "../../support/greedy.ts";
import { tinyModelConfig } from "../../support/make-checkpoint.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("decoder");
const PROMPTS = [
  [5, 1, 383, 77, 12, 12, 200],
  [9, 300, 2],
  [41, 355, 8, 3, 17],
];
let source = "";
let model: ExportedModel;
let decoder: Decoder;

beforeAll(async () => {
  source = await modelOf("noise-distance", path("source"));
  await exported(source, path("onnx"));
  model = await openExportedModel(path("onnx"));
  decoder = await Decoder.ofFile(chooseFile(model), model.config, { threads: 1 });
});
afterAll(() => decoder.close());

/** The last position's logits by our forward pass, which has no cache and no padding. */
const reference = (prompt: readonly number[]) =>
  opened(source, async (checkpoint) => {
    const logits = await computeLogits(checkpoint, [Int32Array.from(prompt)], { threads: 1 });
    return logits.slice(-checkpoint.config.vocab_size);
  });

async function expectLogits(actual: readonly Float32Array[], prompts: readonly (readonly number[])[]) {
  expect(actual).toHaveLength(prompts.length);
  for (const [row, prompt] of prompts.entries()) {
    const expected = await reference(prompt);
    const worst = Math.max(...expected.map((value, i) => Math.abs(value - (actual[row]?.[i] as number))));
    expect(worst).toBeLessThan(1e-4);
    expect(actual[row]).toHaveLength(expected.length);
  }
}

describe("logits of the last position", () => {
  it("the decoder's logits are those of the layerwise forward pass, after a prompt and after each step", async () => {
    const [prompt = []] = PROMPTS;
    await expectLogits(await decoder.prompt([prompt]), [prompt]);
    await expectLogits(await decoder.step([17]), [[...prompt, 17]]);
    await expectLogits(await decoder.step([2]), [[...prompt, 17, 2]]);
  });

  it("the decoder's logits are right for each row of a padded batch", async () => {
    await expectLogits(await decoder.prompt(PROMPTS), PROMPTS);
    const ids = [4, 5, 6];
    await expectLogits(
      await decoder.step(ids),
      PROMPTS.map((prompt, row) => [...prompt, ids[row] as number]),
    );
  });

  it("the decoder's logits are given after each of several tokens, also after some were taken back", async () => {
    const [prompt = []] = PROMPTS;
    await decoder.prompt([prompt]);
    await expectLogits(await decoder.extend([17, 2, 30]), [
      [...prompt, 17],
      [...prompt, 17, 2],
      [...prompt, 17, 2, 30],
    ]);
    decoder.truncate(prompt.length + 1);
    await expectLogits(await decoder.extend([5, 6]), [
      [...prompt, 17, 5],
      [...prompt, 17, 5, 6],
    ]);
    decoder.truncate(2);
    await expectLogits(await decoder.step([9]), [[...prompt.slice(0, 2), 9]]);
  });

  it("the decoder's logits follow the rows that are kept, in a new order", async () => {
    await decoder.prompt(PROMPTS);
    await decoder.step([4, 5, 6]);
    decoder.keep([2, 1]);
    const texts = [
      [...(PROMPTS[2] as number[]), 6],
      [...(PROMPTS[1] as number[]), 5],
    ];
    await expectLogits(await decoder.step([7, 8]), [
      [...(texts[0] as number[]), 7],
      [...(texts[1] as number[]), 8],
    ]);
    decoder.keep([1]);
    await expectLogits(await decoder.step([9]), [[...(texts[1] as number[]), 8, 9]]);
  });

  it("the decoder's logits do not depend on what was decoded before", async () => {
    const [first] = (await decoder.prompt([PROMPTS[1] as number[]])).map((logits) => logits.slice());
    await decoder.step([7]);
    const [second] = await decoder.prompt([PROMPTS[1] as number[]]);
    expect(second).toEqual(first);
  });

  it("the decoder's logits are the same when a batch is too large to be read in one piece", async () => {
    // 2,000 rows of 384 logits: 21 positions a piece, so these 40 come in two.
    const long = Array.from({ length: 40 }, (_, i) => (7 * i + 3) % 384);
    const batch = Array.from({ length: 2000 }, (_, row) =>
      row === 0 ? long.slice(0, 11) : row === 1 ? long : [row % 384],
    );
    const logits = await decoder.prompt(batch);
    await expectLogits(logits.slice(0, 3), batch.slice(0, 3));
  });
});

describe("greedy text", () => {
  it("greedy text is that of the layerwise forward pass, alone and in a batch", async () => {
    const together = await greedy(decoder, PROMPTS, 20);
    for (const [row, prompt] of PROMPTS.entries()) {
      expect(await greedy(decoder, [prompt], 20)).toEqual([together[row]]);
      expect(together[row]?.slice(0, 6)).toEqual(await opened(source, (own) => greedyOwn(own, prompt, 6)));
    }
    expect(new Set(together.flat()).size).toBeGreaterThan(5);
  });

  it("greedy text of a checkpoint is that of its export", async () => {
    await opened(source, async (checkpoint) => {
      const own = await Decoder.ofCheckpoint(checkpoint, { threads: 1 });
      const file = join(path("onnx"), "onnx/model.onnx");
      expect(await greedy(own, PROMPTS, 12)).toEqual(await greedyOnnx(file, checkpoint, PROMPTS, 12));
      await own.close();
    });
  });
});

it("the noise of a checkpoint follows from its seed", async () => {
  await opened(source, async (checkpoint) => {
    const logitsOf = async (seed: number) => {
      const own = await Decoder.ofCheckpoint(checkpoint, { noise: { kind: "generated", seed }, threads: 1 });
      const [logits] = (await own.prompt([PROMPTS[0] as number[]])).map((row) => row.slice());
      await own.close();
      return logits;
    };
    const first = await logitsOf(1);
    expect(await logitsOf(1)).toEqual(first);
    expect(await logitsOf(2)).not.toEqual(first);
  });
});

it("an abort ends the reading of prompts", async () => {
  const { code } = await failureOf(() => decoder.prompt(PROMPTS, AbortSignal.abort()));
  expect(code).toBe("aborted");
});

describe("float16 models", () => {
  it("a float16 model gets its cache back as bits, also for kept rows alone, and its logits become float32", async () => {
    const fed: Tensors[] = [];
    const bits = Uint16Array.from({ length: 3 * 2 }, (_, i) => 0x3c00 + i); // [B = 3, H = 1, S = 2, D = 1]
    const session = {
      ...{ source: "half", config: tinyModelConfig({ heads: 1, layers: 1 }), hasPositions: true },
      ...{ cacheDtype: "float16", logitsDtype: "float16" },
      run: async (feeds: Tensors): Promise<Tensors> => {
        fed.push(feeds);
        const [rows, count] = (feeds.input_ids as Tensor).shape as [number, number];
        // −1 and 0.5
        const logits = Uint16Array.from({ length: rows * count * 2 }, (_, i) => (i % 2 === 0 ? 0xbc00 : 0x3800));
        return {
          logits: { dtype: "float16", data: logits, shape: [rows, count, 2] },
          "present.0.key": { dtype: "float16", data: bits.slice(0, rows * 2), shape: [rows, 1, 2, 1] },
        };
      },
    };
    const half = new Decoder(session as unknown as ModelSession);
    const logits = await half.prompt([[1, 2], [3], [4, 5]]);
    expect(fed[0]?.["past_key_values.0.value"]).toEqual({
      dtype: "float16",
      data: new Uint16Array(0),
      shape: [3, 1, 0, 8],
    });
    expect(logits).toEqual(Array(3).fill(Float32Array.of(-1, 0.5)));
    half.keep([2, 0]);
    await half.step([6, 7]);
    expect(fed[1]?.["past_key_values.0.key"]).toEqual({
      dtype: "float16",
      data: Uint16Array.of(0x3c04, 0x3c05, 0x3c00, 0x3c01),
      shape: [2, 1, 2, 1],
    });
    expect(fed[1]?.input_ids?.data).toEqual(BigInt64Array.of(6n, 7n));
  });
});

describe("models without position_ids", () => {
  it("a model without position_ids takes prompts of one length and refuses padding", async () => {
    const session = await openFileSession(chooseFile(model), model.config, { threads: 1 });
    Object.defineProperty(session, "hasPositions", { value: false });
    const { code, message } = await failureOf(() => new Decoder(session).prompt(PROMPTS));
    expect(code).toBe("unsupported");
    expect(message).toBe(`${chooseFile(model).path}: has no position_ids, so it cannot run padded prompts`);
    await session.close();
  });
});
