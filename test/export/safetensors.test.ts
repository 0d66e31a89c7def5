// Safetensors exports: every dtype, shards, and the expansion to plain GPT-2, whose logits must be the tied model's.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { type ExportOptions, exportModel } from "../../src/export/export-model.ts";
import { decodeFloats, encodeFloats, type FloatDtype } from "../../src/formats/dtype.ts";
import { computeLogits } from "../../src/inference/layerwise.ts";
import { listParameters } from "../../src/model/parameters.ts";
import { VARIANTS, type Variant } from "../../src/model/variants.ts";
import { modelOf, ownLogits } from "../support/exported.ts";
import { failureOf } from "../support/failure.ts";
import { bytesOf, columns, MODEL, opened } from "../support/fixture.ts";
import { GOLDEN_NAMES, goldenModel, worstOf } from "../support/golden-models.ts";
import { tinyTensors, writeCheckpoint } from "../support/make-checkpoint.ts";
import { formOf } from "../support/narrow-models.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("export-safetensors");
let count = 0;
const fresh = (name: string) => path(`${name}-${count++}`);
const DTYPES = ["F64", "F32", "F16", "BF16"] as const;
const NAMES = { F64: "float64", F32: "float32", F16: "float16", BF16: "bfloat16" };

const written = (model: string, output: string, options: Partial<ExportOptions> = {}) =>
  opened(model, (checkpoint) => exportModel(checkpoint, { output, safetensors: {}, ...options }));

describe.each(DTYPES)("safetensors written from a source of %s", (stored) => {
  it.each([undefined, ...DTYPES])("a source written as %s keeps its values", async (dtype) => {
    const model = await writeCheckpoint(fresh("model"), { dtype: stored, variant: "noise-distance" });
    const output = fresh("out");
    await written(model, output, { safetensors: dtype ? { dtype } : {} });
    const target = dtype ?? stored;
    await opened(model, (before) =>
      opened(output, async (after) => {
        for (const { name } of listParameters(before.config)) {
          expect(after.tensors.get(name)?.dtype).toBe(target);
          const bytes = await bytesOf(before, name);
          const expected = target === stored ? bytes : encodeFloats(decodeFloats(bytes, stored), target);
          expect((await bytesOf(after, name)).equals(expected), name).toBe(true);
        }
      }),
    );
    const { dtype: named } = JSON.parse(readFileSync(join(output, "config.json"), "utf8"));
    expect(named).toBe(dtype && NAMES[dtype]);
  });
});

describe("safetensors written from other sources", () => {
  it("a source in Linear orientation is written as GPT-2 stores it", async () => {
    const model = await writeCheckpoint(fresh("model"), { base: "transformer.", layout: "linear", head: "copy" });
    const output = fresh("out");
    await written(model, output);
    await opened(output, ({ tensors }) => {
      expect([...tensors.values()].some(({ transposed }) => transposed)).toBe(false);
      expect(tensors.get("wte.weight")?.sourceName).toBe("wte.weight");
    });
    expect(worstOf(await ownLogits(output, [[1, 2, 3]]), await ownLogits(model, [[1, 2, 3]]))).toBe(0);
  });

  it("weights are split into shards of the requested size", async () => {
    const output = fresh("out");
    const { files } = await written(MODEL, output, { safetensors: { maxShardSize: 100_000 } });
    expect(files.length).toBeGreaterThan(3);
    expect(readdirSync(output)).toEqual(expect.arrayContaining(files));
    expect(worstOf(await ownLogits(output), await ownLogits(MODEL))).toBe(0);
  });

  it("numbers that half floats cannot hold are refused by name", async () => {
    const big = new Uint8Array(Float32Array.from({ length: 8 }, () => 1e6).buffer);
    const tensors = tinyTensors().map((tensor) => (tensor.name === "ln_f.bias" ? { ...tensor, bytes: big } : tensor));
    const model = await writeCheckpoint(fresh("model"), { tensors });
    const error = await failureOf(() => written(model, fresh("out"), { safetensors: { dtype: "F16" } }));
    expect(error.message).toBe("ln_f.bias: 1000000 does not fit F16");
  });
});

describe("plain GPT-2 made from tied models", () => {
  it.each(VARIANTS.filter((variant) => variant !== "noise-distance"))(
    "plain GPT-2 made from %s has its logits",
    async (variant) => {
      const model = await modelOf(variant, fresh("model"));
      const output = fresh("out");
      await written(model, output, { gpt2: true });
      // Sums of q = sA, and of zero columns, are rounded in another order.
      const limit = variant === "pairwise" || variant === "low-rank" ? 1e-5 : 0;
      expect(worstOf(await ownLogits(output), await ownLogits(model))).toBeLessThanOrEqual(limit);
      await opened(output, ({ config, record }) => {
        expect(config).toEqual(expect.not.objectContaining({ qk_ranks: expect.anything() }));
        expect(config.variant).toBe("dense");
        expect(record?.variant).toBe("dense");
        expect(record?.history.at(-1)).toMatchObject({ step: "export", safetensors: "as stored", gpt2: true });
        const columns: Partial<Record<Variant, string>> = {
          pairwise: "[sA, s, v]",
          "low-rank": "[q, k, v] with zero columns",
        };
        const note = `expanded to plain GPT-2 (c_attn = ${columns[variant] ?? "[s, s, v]"}): not smaller than the source`;
        expect(record?.notes.includes(note)).toBe(variant !== "dense");
        expect(record?.history.at(-1)?.expanded).toBe(variant === "dense" ? undefined : variant);
      });
      const config = JSON.parse(readFileSync(join(output, "config.json"), "utf8"));
      expect(Object.keys(config).filter((key) => key.startsWith("nfc_"))).toEqual([]);
    },
  );

  it.each(GOLDEN_NAMES.filter((name) => !["dense", "noise-distance"].includes(name)))(
    "plain GPT-2 made from %s has PyTorch's logits",
    async (name) => {
      const { folder, ids, logits } = await goldenModel(name, fresh(name));
      const output = fresh("out");
      await written(folder, output, { gpt2: true });
      await opened(output, async (checkpoint) => {
        expect(checkpoint.config).toMatchObject({ variant: "dense" });
        expect(worstOf(await computeLogits(checkpoint, ids, { threads: 1 }), logits)).toBeLessThan(1e-5);
      });
    },
  );

  it("plain GPT-2 has the columns and rows of narrow heads in their places, and zeros beside them", async () => {
    const model = await formOf(MODEL, fresh("narrow"), { variant: "low-rank", qk: [8, 4], vo: 5 });
    const output = fresh("out");
    await written(model, output, { gpt2: true });
    const [C, D, H] = [64, 16, 4];
    await opened(MODEL, (dense) =>
      opened(output, async (after) => {
        for (const [layer, qk] of [8, 4].entries())
          for (const kind of ["weight", "bias"]) {
            const name = `h.${layer}.attn.c_attn.${kind}`;
            const widths = [qk, qk, 5];
            const expected = (await dense.readF32(name)).map((value, i) => {
              const column = i % (3 * C);
              return column % D < (widths[Math.floor(column / C)] as number) ? value : 0;
            });
            expect(worstOf(await after.readF32(name), expected)).toBe(0);
          }
        const name = "h.1.attn.c_proj.weight";
        const rows = (await dense.readF32(name)).map((value, i) => (Math.floor(i / C) % D < 5 ? value : 0));
        expect(rows).toHaveLength(H * D * C);
        expect(worstOf(await after.readF32(name), rows)).toBe(0);
      }),
    );
    expect(worstOf(await ownLogits(output), await ownLogits(model))).toBeLessThan(1e-5);
  });

  it("plain GPT-2 stores [s, s, v], byte for byte, and no noise", async () => {
    const model = await modelOf("noise-per-head", fresh("model"));
    const output = fresh("out");
    await written(model, output, { gpt2: true });
    await opened(model, (before) =>
      opened(output, async (after) => {
        const C = before.config.n_embd;
        for (const name of ["h.0.attn.c_attn.weight", "h.1.attn.c_attn.bias"]) {
          const rows = name.endsWith(".bias") ? 1 : C;
          const part = async (checkpoint: typeof before, index: number) =>
            Buffer.concat(columns(await bytesOf(checkpoint, name), rows, 4 * C * index, 4 * C));
          const [s, v] = [await part(before, 0), await part(before, 1)];
          expect([await part(after, 0), await part(after, 1), await part(after, 2)]).toEqual([s, s, v]);
        }
        expect([...after.reader.tensors.keys()].filter((name) => name.includes("noise"))).toEqual([]);
      }),
    );
  });

  it.each([
    ["half floats", { dtype: "F16" }, "BF16"],
    ["no biases", { bias: false }, undefined],
    ["Linear orientation", { layout: "linear" }, "F64"],
    ["low ranks in half floats", { dtype: "F16", variant: "low-rank" }, undefined],
    ["low ranks without biases", { bias: false, variant: "low-rank" }, "F64"],
    ["low ranks in Linear orientation", { layout: "linear", variant: "low-rank" }, undefined],
    ["forms A without biases", { bias: false, variant: "pairwise" }, undefined],
    ["forms A in Linear orientation", { layout: "linear", variant: "pairwise" }, "F64"],
  ] as const)("plain GPT-2 is made from %s", async (_, options, dtype?: FloatDtype) => {
    const model = await writeCheckpoint(fresh("model"), { variant: "symmetric", ...options });
    const output = fresh("out");
    await written(model, output, { gpt2: true, safetensors: dtype ? { dtype } : {} });
    const loss = dtype === "BF16" ? 0.2 : "variant" in options ? 1e-5 : 0;
    expect(worstOf(await ownLogits(output, [[1, 2, 3]]), await ownLogits(model, [[1, 2, 3]]))).toBeLessThanOrEqual(
      loss,
    );
  });

  it("plain GPT-2 cannot hold distance means, and names the model it refuses", async () => {
    const model = await modelOf("noise-distance", fresh("model"));
    const error = await failureOf(() => written(model, fresh("out"), { gpt2: true }));
    expect(error.code).toBe("unsupported");
    expect(error.message).toBe(
      `${model}: plain GPT-2 cannot express the distance means of noise-distance, so its logits would change`,
    );
    expect(error.hint).toContain("--drop-noise");
  });

  it("plain GPT-2 without the distance means has the logits of the symmetric model", async () => {
    const distance = await modelOf("noise-distance", fresh("model"));
    const output = fresh("out");
    await written(distance, output, { gpt2: true, dropNoise: true });
    expect(worstOf(await ownLogits(output), await ownLogits(distance))).toBeGreaterThan(1e-3);
    // The same S without its means.
    const bare = await modelOf("symmetric", fresh("bare"));
    expect(worstOf(await ownLogits(output), await ownLogits(bare))).toBe(0);
  });
});
