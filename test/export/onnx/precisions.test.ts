// The files of every precision: what they hold, models of odd shapes, and that a wrong byte in a weight is caught.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { onnx as Onnx } from "onnx-proto";
import { beforeAll, describe, expect, it } from "vitest";
import { type PrecisionPlan, planPrecision } from "../../../src/export/onnx/precision-plan.ts";
import { verifyOnnx } from "../../../src/export/onnx/verify.ts";
import { nameModelFile, type Precision } from "../../../src/model/precision.ts";
import { resolveQuantization } from "../../../src/model/quantization.ts";
import { VARIANTS } from "../../../src/model/variants.ts";
import { exported, modelOf, TEXTLESS as PRECISIONS } from "../../support/exported.ts";
import { failureOf } from "../../support/failure.ts";
import { digest, MODEL, opened } from "../../support/fixture.ts";
import { tinyTensors, writeCheckpoint } from "../../support/make-checkpoint.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const { ModelProto } = (createRequire(import.meta.url)("onnx-proto") as { onnx: typeof Onnx }).onnx;
const path = temporaryFolder("precisions");
/** Bits of a stored weight of the embedding. */
const BITS: Record<Precision, number> = { fp32: 32, fp16: 16, int8: 8, uint8: 8, mixed: 4, q4: 4, q4f16: 4, q2: 4 };
const [VOCABULARY, WIDTH] = [384, 64];

const decode = (folder: string, precision: Precision) =>
  ModelProto.decode(readFileSync(`${folder}/onnx/${nameModelFile(precision)}`));
const initializers = (model: Onnx.ModelProto) => model.graph?.initializer as Onnx.TensorProto[];

describe.each(VARIANTS)("precisions of a %s model", (variant) => {
  beforeAll(async () => {
    await exported(await modelOf(variant, path(`${variant}-model`)), path(variant), { precisions: PRECISIONS });
  });

  it.each(PRECISIONS)("the %s file stores the tied embedding once", (precision) => {
    const bytes = (VOCABULARY * WIDTH * BITS[precision]) / 8;
    const large = initializers(decode(path(variant), precision)).filter(
      ({ rawData }) => (rawData?.length ?? 0) >= bytes,
    );
    expect(large.map(({ name }) => name?.split("/")[0])).toEqual(["wte.weight"]);
  });

  it.each(PRECISIONS)("the %s file has float32 logits, and sums in float32", (precision) => {
    const { graph } = decode(path(variant), precision);
    const typeOf = (name: string) =>
      [...(graph?.input ?? []), ...(graph?.output ?? [])].find((value) => value.name === name)?.type?.tensorType
        ?.elemType;
    const [float, float16] = [1, 10];
    expect(typeOf("logits")).toBe(float);
    expect(typeOf("present.0.key")).toBe(/16/.test(precision) ? float16 : float);
    const norms = (graph?.node ?? []).filter(({ opType }) => opType === "LayerNormalization");
    expect(norms).toHaveLength(5);
    const dtypes = new Map(initializers({ graph } as Onnx.ModelProto).map(({ name, dataType }) => [name, dataType]));
    for (const { input } of norms) expect(dtypes.get(input?.[1] ?? "")).toBe(float);
  });
});

describe("sizes of the precisions", () => {
  it("sizes fall with the bits per weight, plus the scales of blocks", () => {
    const weights = 12 * WIDTH * WIDTH * 2 + VOCABULARY * WIDTH; // two dense layers and the embedding
    const scales = (weights / 32) * 2;
    const rest = 64 * WIDTH; // positions
    const total = (precision: Precision) =>
      initializers(decode(path("dense"), precision)).reduce((sum, { rawData }) => sum + (rawData?.length ?? 0), 0);
    const embedding = VOCABULARY * WIDTH;
    const fewer = (weights - embedding) / 4 + (weights - embedding) / 128; // codes and zero points of 2 bits less
    const q4 = weights / 2 + scales + weights / 64 + 2 * rest;
    const least: Record<Precision, number> = {
      fp32: 4 * (weights + rest),
      fp16: 2 * (weights + rest),
      int8: weights + rest,
      uint8: weights + scales + weights / 32 + 2 * rest,
      mixed: q4,
      q4,
      q4f16: q4,
      q2: q4 - fewer,
    };
    // Biases, norms, the scales of int8 and the graph's small constants come on top.
    for (const precision of PRECISIONS) {
      expect(total(precision)).toBeGreaterThanOrEqual(least[precision]);
      expect(total(precision)).toBeLessThan(least[precision] + 24_000);
    }
  });

  it("every precision written again is the same to the byte", async () => {
    await exported(MODEL, path("again"), { precisions: PRECISIONS });
    const files = (folder: string) => Object.entries(digest(folder)).filter(([name]) => name.startsWith("onnx/"));
    expect(files(path("again"))).toEqual(files(path("dense")));
    expect(files(path("again"))).toHaveLength(PRECISIONS.length);
  });
});

describe("models of other shapes, in every precision", () => {
  it.each([
    ["of the narrowest blocks", { width: 16, vocab: 11 }],
    ["whose width blocks of 16 alone divide", { width: 48, heads: 3, vocab: 77 }],
    ["of odd sizes", { width: 32, heads: 2, inner: 29, vocab: 101 }],
    ["without biases", { width: 32, bias: false }],
    ["with a head of its own", { width: 32, head: "own" }],
    ["in bfloat16", { width: 32, dtype: "BF16" }],
  ] as const)("a model %s is exported in every precision", async (name, options) => {
    const { onnx } = await exported(await writeCheckpoint(path(`${name} model`), options), path(name), {
      precisions: PRECISIONS,
    });
    expect(onnx.map(({ precision, verification }) => [precision, verification !== null])).toEqual(
      PRECISIONS.map((precision) => [precision, true]),
    );
  });

  it.each([16, 32, 64])("blocks of %d are exported, symmetric and not", async (block) => {
    for (const symmetric of [false, true]) {
      const folder = path(`${block} ${symmetric}`);
      const precisions: Precision[] = ["uint8", "q4", "q4f16"];
      const { onnx } = await exported(MODEL, folder, { precisions, quantization: { block, symmetric } });
      expect(onnx).toHaveLength(3);
      const names = initializers(decode(folder, "q4")).map(({ name }) => name as string);
      expect(names.some((name) => name.endsWith("/zero_points"))).toBe(!symmetric);
    }
  });

  it("int8 codes of reduced range stay within ±63", async () => {
    await exported(MODEL, path("reduced"), { precisions: ["int8"], quantization: { reduceRange: true } });
    const codes = initializers(decode(path("reduced"), "int8")).filter(({ dataType }) => dataType === 3);
    const largest = codes.map(({ rawData }) =>
      Math.max(...Array.from(rawData ?? [], (byte) => Math.abs((byte << 24) >> 24))),
    );
    expect(codes.length).toBeGreaterThan(8);
    expect(new Set(largest)).toEqual(new Set([63]));
  });

  it.each([
    [{ width: 40, heads: 4 }, {}, "no block size divides n_embd 40, which q4 needs; write int8 instead"],
    [{ width: 48, heads: 3 }, { block: 32 }, "blocks of 32 do not divide n_embd 48; choose 16"],
    [{ width: 64, heads: 4 }, { block: 128 }, "blocks of 128 do not divide n_embd 64; choose 16 or 32 or 64"],
    [{ width: 64, heads: 4 }, { block: 24 }, "blocks of 24: not one of 16, 32, 64, 128; choose one of them"],
  ])("an export of a model with %j and quantization %j is refused in words", async (shape, quantization, words) => {
    const model = await writeCheckpoint(path(`refused ${words}`), shape);
    const error = await failureOf(() => exported(model, path("refused"), { precisions: ["int8", "q4"], quantization }));
    expect(`${error.message}; ${error.hint}`).toBe(words);
    expect(existsSync(path("refused"))).toBe(false);
  });

  it.each<Precision>(["fp16", "q4"])("a weight beyond float16 is refused by name in %s", async (precision) => {
    const tensors = tinyTensors({ width: 32 }).map((tensor) => {
      if (tensor.name !== "h.1.mlp.c_fc.weight") return tensor;
      const values = new Float32Array(tensor.bytes.slice().buffer).map((value) => value * 1e8);
      return { ...tensor, bytes: new Uint8Array(values.buffer) };
    });
    const model = await writeCheckpoint(path(`large ${precision}`), { width: 32, tensors });
    const error = await failureOf(() => exported(model, path("large-onnx"), { precisions: [precision] }));
    expect(error.code).toBe("unsupported");
    expect(error.message).toContain("h.1.mlp.c_fc.weight");
    expect(existsSync(path("large-onnx"))).toBe(false);
  });
});

describe("a model whose weights fit float16 but whose products do not", () => {
  const large = (name: string) =>
    tinyTensors({ width: 32 }).map((tensor) => {
      if (tensor.name !== name) return tensor;
      const values = new Float32Array(tensor.bytes.slice().buffer).map((value) => value * 6e4);
      return { ...tensor, bytes: new Uint8Array(values.buffer) };
    });

  // Queries, keys and values: these are float16 in every runtime, where ONNX Runtime's CPU build keeps others in float32.
  it.each<Precision>(["fp16", "q4f16"])(
    "a model whose products pass float16 is refused in %s, with a hint",
    async (precision) => {
      const tensors = large("h.1.attn.c_attn.weight");
      const model = await writeCheckpoint(path(`overflow ${precision}`), { width: 32, tensors });
      const error = await failureOf(() => exported(model, path("overflow-onnx"), { precisions: [precision] }));
      expect(error.code).toBe("unsupported");
      const file = path(`overflow-onnx/onnx/${nameModelFile(precision)}`);
      expect(error.message).toBe(`${file}: products of this model pass 65504, the largest number of float16`);
      expect(error.hint).toBe("export fp32, int8, uint8 or q4");
      expect(existsSync(path("overflow-onnx"))).toBe(false);
    },
  );

  it("a model whose products pass float16 is written in all precisions that the hint names", async () => {
    const model = await writeCheckpoint(path("overflow"), { width: 32, tensors: large("h.1.attn.c_attn.weight") });
    const { onnx } = await exported(model, path("no-overflow"), { precisions: ["fp32", "int8", "uint8", "q4"] });
    expect(onnx).toHaveLength(4);
  });
});

describe("verifyOnnx of a file with wrong bytes", () => {
  /** What is spoilt in the bytes of an initializer. */
  type Damage = (bytes: Uint8Array) => void;
  const flip =
    (at: number): Damage =>
    (bytes) => {
      bytes[at] = (bytes[at] as number) ^ 0xff;
    };
  /** Two neighbours of so many bytes change places. */
  const swap =
    (size: number): Damage =>
    (bytes) => {
      const first = bytes.slice(0, size);
      bytes.copyWithin(0, size, 2 * size);
      bytes.set(first, size);
    };
  const flipRow =
    (size: number): Damage =>
    (bytes) => {
      for (let i = 0; i < size; i++) flip(i)(bytes);
    };
  const CASES: [Precision, string, string, Damage][] = [
    ["fp16", "a row of weights", "h.1.mlp.c_proj.weight", flipRow(128)],
    ["int8", "a tensor of scales", "h.0.mlp.c_fc.weight/int8/scales", (bytes) => bytes.fill(0x3f)],
    ["int8", "a tensor of weights, upside down", "h.0.mlp.c_fc.weight/int8", (bytes) => bytes.reverse()],
    ["uint8", "one block", "h.1.mlp.c_proj.weight/values", flipRow(32)],
    ["uint8", "two scales", "h.1.mlp.c_fc.weight/scales", swap(2)],
    ["uint8", "one zero point", "h.0.attn.c_attn.weight/zero_points", flip(3)],
    ["q4", "two codes of the embedding", "wte.weight/values", swap(1)],
    ["q4", "one block", "h.1.mlp.c_proj.weight/values", flipRow(16)],
    ["q4", "two scales", "h.1.mlp.c_fc.weight/scales", swap(2)],
    ["q4", "one pair of zero points", "h.0.attn.c_attn.weight/zero_points", flip(3)],
    ["q4f16", "some blocks", "h.1.mlp.c_proj.weight/values", flipRow(256)],
  ];

  it.each(CASES)("verifyOnnx of a %s file notices wrong bytes in %s", async (precision, damage, name, spoil) => {
    await opened(MODEL, async (checkpoint) => {
      const plan: PrecisionPlan = await planPrecision(checkpoint, precision, {
        noise: { kind: "mean" },
        quantization: resolveQuantization(WIDTH, [precision]),
      });
      const model = decode(path("dense"), precision);
      mkdirSync(path("spoilt"), { recursive: true });
      const file = path(`spoilt/${precision} ${damage}.onnx`);
      const verify = () => verifyOnnx(file, plan.decoded, { precision, threads: 1 });
      writeFileSync(file, ModelProto.encode(model).finish());
      await verify();
      const tensor = initializers(model).find((initializer) => initializer.name === name) as Onnx.TensorProto;
      tensor.rawData = Uint8Array.from(tensor.rawData as Uint8Array);
      spoil(tensor.rawData);
      writeFileSync(file, ModelProto.encode(model).finish());
      expect((await failureOf(verify)).code).toBe("mismatch");
    });
  });
});
