// Calibrated quantisation of whole models: what is covered, that it pays, and what is refused.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import type { Checkpoint } from "../../../src/checkpoint/checkpoint.ts";
import { loadTokenizer } from "../../../src/checkpoint/tokenizer.ts";
import { streamTokens, takeWindows } from "../../../src/checkpoint/tokens.ts";
import { type CalibrateOptions, quantizeCalibrated } from "../../../src/export/quantize/calibrate.ts";
import { type BlockMatrix, dequantizeBlocks, quantizeBlocks } from "../../../src/graph/quantize/blocks.ts";
import { evaluate } from "../../../src/inference/score/evaluate.ts";
import type { ProgressEvent } from "../../../src/progress.ts";
import { failureOf } from "../../support/failure.ts";
import { converted, MODEL, opened, SHARED, TEXT } from "../../support/fixture.ts";
import { SLOW } from "../../support/slow.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const at = temporaryFolder("calibrate");
const FORMAT = { bits: 4, symmetric: true, block: 32 } as const;
const TRAIN = join(MODEL, "..", "train.txt");

async function windowsOf(checkpoint: Checkpoint, file: string, tokens: number): Promise<Int32Array[]> {
  const tokenizer = await loadTokenizer(checkpoint.folder, checkpoint.config);
  const length = checkpoint.config.n_positions;
  return takeWindows(streamTokens([file], tokenizer), { length, count: tokens, name: file });
}

const shapeOf = (checkpoint: Checkpoint, name: string) => checkpoint.tensors.get(name)?.shape as [number, number];
const isHead = (name: string) => name === "wte.weight";

/** The model with weights as their blocks decode, and the KL to the model as it was, in nats a token. */
async function klOf(checkpoint: Checkpoint, matrices: ReadonlyMap<string, BlockMatrix>, ids: Int32Array[]) {
  const decoded: Checkpoint = {
    ...checkpoint,
    readF32: async (name) => {
      const matrix = matrices.get(name);
      const shape = shapeOf(checkpoint, name);
      return matrix ? dequantizeBlocks(matrix, { ...FORMAT, shape, byRow: isHead(name) }) : checkpoint.readF32(name);
    },
  };
  async function* tokens() {
    for (const window of ids) yield [...window];
  }
  return (await evaluate(decoded, { tokens: tokens(), against: checkpoint, threads: 1 })).against?.kl as number;
}

async function plain(checkpoint: Checkpoint, names: Iterable<string>): Promise<Map<string, BlockMatrix>> {
  const matrices = new Map<string, BlockMatrix>();
  for (const name of names) {
    const options = { ...FORMAT, shape: shapeOf(checkpoint, name), byRow: isHead(name), name };
    matrices.set(name, quantizeBlocks(await checkpoint.readF32(name), options));
  }
  return matrices;
}

/** KL of calibrated and of plain quantisation, on text that was not calibrated on. */
async function compared(model: string, train: string, text: string, tokens: number) {
  return opened(model, async (checkpoint) => {
    const options: CalibrateOptions = { ...FORMAT, threads: 1 };
    const matrices = await quantizeCalibrated(checkpoint, await windowsOf(checkpoint, train, tokens), options);
    const held = await windowsOf(checkpoint, text, tokens);
    return {
      names: [...matrices.keys()],
      layers: checkpoint.config.n_layer,
      calibrated: await klOf(checkpoint, matrices, held),
      plain: await klOf(checkpoint, await plain(checkpoint, matrices.keys()), held),
    };
  });
}

describe("calibration on the fixture", () => {
  beforeAll(() =>
    converted({ output: at("symmetric"), strategy: "calibrated", calibration: [TRAIN], calibrationTokens: 4096 }),
  );

  test.each(["dense", "symmetric"])(
    "the products of all layers and the head lose less with calibration in the %s model",
    async (variant) => {
      const result = await compared(variant === "dense" ? MODEL : at("symmetric"), TRAIN, TEXT, 4096);
      const linear = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"];
      const blocks = Array.from({ length: result.layers }, (_, layer) =>
        linear.map((name) => `h.${layer}.${name}.weight`),
      );
      expect(result.names.sort()).toEqual([...blocks.flat(), "wte.weight"].sort());
      expect(result.calibrated).toBeLessThan(0.8 * result.plain);
    },
  );

  test("calibration on six tokens loses no more than none does", () =>
    opened(MODEL, async (checkpoint) => {
      const [window] = await windowsOf(checkpoint, TRAIN, 64);
      const few = [(window as Int32Array).slice(0, 6)];
      const matrices = await quantizeCalibrated(checkpoint, few, { ...FORMAT, threads: 1 });
      const held = await windowsOf(checkpoint, TEXT, 4096);
      const without = await klOf(checkpoint, await plain(checkpoint, matrices.keys()), held);
      expect(await klOf(checkpoint, matrices, held)).toBeLessThan(1.1 * without);
    }));

  test("calibration reports one layer at a time, and stops when its signal fires", () =>
    opened(MODEL, async (checkpoint) => {
      const windows = await windowsOf(checkpoint, TEXT, 256);
      const events: ProgressEvent[] = [];
      await quantizeCalibrated(checkpoint, windows, { ...FORMAT, onProgress: (event) => events.push(event) });
      const total = checkpoint.config.n_layer + 1;
      expect(events.map(({ done, total }) => [done, total])).toEqual(
        Array.from({ length: total }, (_, i) => [i, total]),
      );
      const stop = new AbortController();
      const onProgress = ({ done }: ProgressEvent) => done === 1 && stop.abort();
      const run = () => quantizeCalibrated(checkpoint, windows, { ...FORMAT, onProgress, signal: stop.signal });
      expect((await failureOf(run)).code).toBe("aborted");
    }));

  test("a model that overflows is refused by name", () =>
    opened(MODEL, async (checkpoint) => {
      const readF32 = async (name: string) => {
        const values = await checkpoint.readF32(name);
        return name === "h.0.mlp.c_fc.weight" ? values.map(() => 1e38) : values;
      };
      const windows = await windowsOf(checkpoint, TEXT, 256);
      const failure = await failureOf(() => quantizeCalibrated({ ...checkpoint, readF32 }, windows, FORMAT));
      expect(failure.code).toBe("invalid-file");
      expect(failure.message).toContain("h.0.mlp.c_proj.weight");
    }));
});

const BASE = join(SHARED, "models/base");
describe.skipIf(!existsSync(BASE))("calibration on the shared model", () => {
  test("calibrated rounding loses a fifth less than plain rounding", { ...SLOW, timeout: 120_000 }, async () => {
    const text = join(SHARED, "data/text");
    const result = await compared(BASE, join(text, "train.txt"), join(text, "valid.txt"), 4096);
    expect(result.calibrated).toBeLessThan(0.8 * result.plain);
  });
});
