// Mixed files: bits by measured KL within a budget of bytes, what is refused, and the file that comes of it.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { makeMemoryCheckpoint } from "../../src/checkpoint/checkpoint.ts";
import { dequantizeBlocks, quantizeBlocks } from "../../src/graph/quantize/blocks.ts";
import { drawWindows } from "../../src/inference/generate/draw-windows.ts";
import { chooseMixedBits, measureSensitivities, planMeasured, rankUpgrades } from "../../src/inference/mixed-bits.ts";
import { evaluate } from "../../src/inference/score/evaluate.ts";
import { countExportBytes } from "../../src/model/export-size.ts";
import { resolveQuantization } from "../../src/model/quantization.ts";
import { exported } from "../support/exported.ts";
import { failureOf } from "../support/failure.ts";
import { MODEL, opened, TEXT } from "../support/fixture.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("mixed");
const quantization = resolveQuantization(64, ["mixed"]);
const noise = { kind: "mean" } as const;
/** Windows of 32 tokens, of which the fixture's vocabulary has 384. */
const windows = Array.from({ length: 6 }, (_, w) => Int32Array.from({ length: 32 }, (_, t) => (w * 97 + t * 31) % 384));
const matrix = (name: string, shape: [number, number], byRow = false) => ({ name, shape, byRow });

describe("the choice of bits", () => {
  test("the KL of a matrix is that of the model with it rounded, measured another way", async () => {
    await opened(MODEL, async (checkpoint) => {
      const candidates = [
        { ...matrix("wte.weight", [384, 64], true), bits: 2 as const },
        { ...matrix("h.1.mlp.c_fc.weight", [64, 256]), bits: 4 as const },
      ];
      const options = { budget: 1, quantization, noise, threads: 1 };
      const measured = await measureSensitivities(checkpoint, windows, candidates, options);
      for (const [i, { name, shape, byRow, bits }] of candidates.entries()) {
        const format = { bits, block: quantization.block, symmetric: false, shape, byRow };
        const decode = async () =>
          dequantizeBlocks(quantizeBlocks(await checkpoint.readF32(name), { ...format, name }), format);
        const rounded = makeMemoryCheckpoint(checkpoint, new Map([[name, decode]]));
        async function* tokens() {
          for (const window of windows) yield [...window];
        }
        const size = { length: 32, stride: 32 };
        const { against } = await evaluate(rounded, { tokens: tokens(), against: checkpoint, threads: 1, ...size });
        // The other way does not score a window's last token.
        expect((measured[i]?.kl as number) / (against?.kl as number)).toBeGreaterThan(0.8);
        expect((measured[i]?.kl as number) / (against?.kl as number)).toBeLessThan(1.25);
        expect(measured[i]).toMatchObject({ name, bits, size: shape[0] * shape[1] });
      }
    });
  });

  test("the step that saves the most KL for a bit comes first", () => {
    const of = (name: string, bits: 2 | 4, size: number, kl: number) => ({ name, bits, size, kl });
    const ranked = rankUpgrades([of("a", 4, 10, 0.1), of("b", 4, 100, 0.1), of("a", 2, 10, 0.11), of("b", 2, 100, 4)]);
    // a KL for a bit: b 2→4: 3.9/200, a 4→8: 0.1/40, a 2→4: 0.01/20, b 4→8: 0.1/400
    expect(ranked.map(({ name, to }) => `${name} ${to}`)).toEqual(["b 4", "a 8", "a 4", "b 8"]);
  });

  test("bits fill the budget, and not a byte more; below q4's size some matrices get 2", async () => {
    await opened(MODEL, async (checkpoint) => {
      const { config } = checkpoint;
      const q4 = countExportBytes(config, "q4");
      for (const [share, widths] of [
        [1.25, [4, 8]],
        [0.85, [2, 4]],
        [4, [8]],
      ] as const) {
        const budget = Math.floor(share * q4);
        const bits = await chooseMixedBits(checkpoint, windows, { budget, quantization, noise, threads: 1 });
        expect([...new Set(bits.values())].sort()).toEqual(widths);
        const bytes = (mixedBits: typeof bits) =>
          countExportBytes(config, "mixed", { quantization: { ...quantization, mixedBits } });
        expect(bytes(bits)).toBeLessThanOrEqual(budget);
        if (share !== 4)
          for (const [name, own] of bits)
            if (own < 8) expect(bytes(new Map([...bits, [name, (2 * own) as 4 | 8]])), name).toBeGreaterThan(budget);
      }
    });
  });

  test("bits of the embedding that were asked for are kept, and a budget that nothing fits is refused", async () => {
    await opened(MODEL, async (checkpoint) => {
      const asked = { ...quantization, embeddingBits: 8 as const };
      const bits = await chooseMixedBits(checkpoint, windows, { budget: 1e6, quantization: asked, noise, threads: 1 });
      expect(bits.has("wte.weight")).toBe(false);
      expect(bits.size).toBe(8);
      const options = { budget: 20_000, quantization, noise, threads: 1 };
      const error = await failureOf(() => chooseMixedBits(checkpoint, windows, options));
      expect(`${error.code}: ${error.message}; ${error.hint}`).toMatch(
        /^usage: a mixed file of this model has at least \d+ bytes, the budget is 20000; give a larger --budget$/,
      );
    });
  });
});

describe("a mixed file", () => {
  test("keeps to its budget, is verified, and is recorded with the bits of every matrix", async () => {
    const budget = 110_000;
    const calibration = { file: TEXT, tokens: 1024 };
    const options = { precisions: ["q4", "mixed"] as const, calibration, budget: { bytes: budget }, texts: [TEXT] };
    const { exports, onnx } = await exported(MODEL, path("mixed"), options);
    const [mixed, q4] = exports;
    expect(mixed).toMatchObject({ precision: "mixed", file: "onnx/model_mixed.onnx", budget, method: "gptq" });
    expect(readFileSync(path("mixed", "onnx/model_mixed.onnx")).byteLength).toBe(mixed?.bytes);
    expect(mixed?.bytes).toBeLessThanOrEqual(budget);
    expect(mixed?.bytes).toBeGreaterThan(q4?.bytes as number);
    expect(Object.keys(mixed?.bits ?? {})).toHaveLength(9);
    expect(new Set(Object.values(mixed?.bits ?? {}))).toEqual(new Set([4, 8]));
    expect(onnx.every(({ verification }) => verification !== null)).toBe(true);
    expect(mixed?.perplexity?.kl as number).toBeLessThan(q4?.perplexity?.kl as number);
    const card = readFileSync(path("mixed", "README.md"), "utf8");
    expect(card).toContain("model_mixed.onnx");
  });

  test("without a text its bits are chosen on text that the model draws, and a note says so", async () => {
    const options = { precisions: ["mixed"] as const, budget: { bytes: 110_000 } };
    const { exports, notes } = await exported(MODEL, path("drawn"), options);
    expect(notes).toEqual(["mixed: bits chosen on text that the model drew; --calibration FILE takes yours, and GPTQ"]);
    const [mixed] = exports;
    expect(mixed).toMatchObject({ precision: "mixed", method: "least-squares" });
    expect(mixed?.bytes).toBeLessThanOrEqual(110_000);
    expect(new Set(Object.values(mixed?.bits ?? {}))).toEqual(new Set([4, 8]));
    const drawn = await opened(MODEL, (checkpoint) =>
      drawWindows(checkpoint, { ...planMeasured(checkpoint.config), threads: 1 }),
    );
    const bits = await opened(MODEL, (checkpoint) =>
      chooseMixedBits(checkpoint, drawn, { budget: 110_000, quantization, noise, threads: 1 }),
    );
    expect(mixed?.bits).toEqual(Object.fromEntries(bits));
  });
});
