// Safetensors exports: every dtype, shards, and the expansion to plain GPT-2, whose logits must be the tied model's.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { type ExportOptions, exportModel } from "../../src/export/export-model.ts";
import { decodeFloats, encodeFloats, type FloatDtype } from "../../src/formats/dtype.ts";
import { listParameters } from "../../src/model/parameters.ts";
import { VARIANTS } from "../../src/model/variants.ts";
import { modelOf, ownLogits } from "../support/exported.ts";
import { failureOf } from "../support/failure.ts";
import { bytesOf, columns, MODEL, opened } from "../support/fixture.ts";
import { worstOf } from "../support/golden-models.ts";
import { tinyTensors, writeCheckpoint } from "../support/make-checkpoint.ts";
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
      expect(worstOf(await ownLogits(output), await ownLogits(model))).toBe(0);
      await opened(output, ({ config, record }) => {
        expect(config.variant).toBe("dense");
        expect(record?.variant).toBe("dense");
        expect(record?.history.at(-1)).toMatchObject({ step: "export", safetensors: "as stored", gpt2: true });
        const note = "expanded to plain GPT-2 (c_attn = [s, s, v]): not smaller than the source";
        expect(record?.notes.includes(note)).toBe(variant !== "dense");
      });
      expect(JSON.parse(readFileSync(join(output, "config.json"), "utf8"))).not.toHaveProperty("nfc_variant");
    },
  );

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
  ] as const)("plain GPT-2 is made from %s", async (_, options, dtype?: FloatDtype) => {
    const model = await writeCheckpoint(fresh("model"), { variant: "symmetric", ...options });
    const output = fresh("out");
    await written(model, output, { gpt2: true, safetensors: dtype ? { dtype } : {} });
    const loss = dtype === "BF16" ? 0.2 : 0;
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
