// What headers tell: weights of every precision counted as the checkpoint counts them, and codes that are not believed.
import { beforeAll, describe, expect, it } from "vitest";
import type { NodeMessage } from "../../../src/formats/onnx/messages.ts";
import { countPackedWeights } from "../../../src/formats/onnx/packed.ts";
import { readOnnxStructure } from "../../../src/formats/onnx/reader.ts";
import type { OnnxInitializer } from "../../../src/formats/onnx/structure.ts";
import { nameModelFile } from "../../../src/model/precision.ts";
import { findAttentionColumns, findAttentionParts } from "../../../src/report/weigh/attention-columns.ts";
import {
  findAccidents,
  type HeaderTensor,
  readHeaderTensors,
  readOnnxTensors,
} from "../../../src/report/weigh/header-tensors.ts";
import { exported, modelOf, TEXTLESS as PRECISIONS } from "../../support/exported.ts";
import { MODEL } from "../../support/fixture.ts";
import { writeCheckpoint } from "../../support/make-checkpoint.ts";
import { formOf } from "../../support/narrow-models.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const CONSTANT = /^const_/;
const path = temporaryFolder("header-tensors");

function byGroup(tensors: readonly HeaderTensor[]): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const { group, parameters } of tensors)
    if (parameters !== 0) sums[group] = (sums[group] ?? 0) + (parameters ?? Number.NaN);
  return sums;
}

beforeAll(() => exported(MODEL, path("dense"), { precisions: PRECISIONS }));

describe("the weights of an export", () => {
  beforeAll(async () => {
    await exported(await modelOf("symmetric", path("symmetric-model")), path("symmetric"), { precisions: PRECISIONS });
  });

  it.each(PRECISIONS)("the %s file has as many weights in each group as the checkpoint", async (precision) => {
    for (const [model, folder] of [
      [MODEL, "dense"],
      [path("symmetric-model"), "symmetric"],
    ] as const) {
      const stored = await readHeaderTensors(`${model}/model.safetensors`);
      const file = await readHeaderTensors(`${path(folder)}/onnx/${nameModelFile(precision)}`);
      expect(byGroup(file)).toEqual(byGroup(stored));
    }
  });

  it("the columns of c_attn tell a tied model from a dense one", async () => {
    const parts = async (file: string) => findAttentionParts(findAttentionColumns(await readHeaderTensors(file)));
    for (const precision of PRECISIONS) {
      expect(await parts(`${path("dense")}/onnx/${nameModelFile(precision)}`), precision).toBe(3);
      expect(await parts(`${path("symmetric")}/onnx/${nameModelFile(precision)}`), precision).toBe(2);
    }
  });

  it.each([
    [16, 16, 3],
    [8, 16, 2],
    [4, 8, null], // [C, C]
    [2, 4, null], // [C, C / 2], which is [2N, N]
    [2, 1, null],
    [[8, 16], 16, null],
  ] as const)("c_attn of a model with %j numbers of q and %d of v is %j widths", async (qk, vo, parts) => {
    const folder = path(`ranks-${qk}-${vo}`);
    await formOf(MODEL, folder, { variant: "low-rank", qk, vo });
    expect(findAttentionParts(findAttentionColumns(await readHeaderTensors(`${folder}/model.safetensors`)))).toBe(
      parts,
    );
  });

  it.each([
    ["m.transformer.", {}],
    ["_orig_mod.module.", { "wte.weight": "lm_head.weight" }],
    ["decoder.", { "h.0.attn.c_attn.weight": "h.0.attn.c_attn.weight_quantized" }],
  ])(
    "weights whose names have the prefix %s and the changes %j are grouped alike",
    async (prefix, others: Record<string, string>) => {
      const structure = await readOnnxStructure(`${path("dense")}/onnx/model.onnx`);
      const initializers = structure.initializers.map((one) => ({
        ...one,
        name: CONSTANT.test(one.name) ? one.name : `${prefix}${others[one.name] ?? one.name}`,
      }));
      const scalar = { name: "scalar_tensor", dtype: 1, dims: [], byteLength: 4, offset: 0, external: null };
      const mask = { ...scalar, name: "val_128", dims: [1, 1, 8, 8], byteLength: 256 };
      const foreign = readOnnxTensors({ ...structure, initializers: [...initializers, scalar, mask] });
      expect(byGroup(foreign)).toEqual(byGroup(readOnnxTensors(structure)));
      expect(findAttentionParts(findAttentionColumns(foreign))).toBe(3);
    },
  );

  it("a copied head is an accident, and a tied one is not", async () => {
    const tensors = await readHeaderTensors(`${path("dense")}/onnx/model.onnx`);
    expect(findAccidents("m.onnx", tensors)).toEqual([]);
    const wte = tensors.find(({ name }) => name === "wte.weight") as HeaderTensor;
    const copy = { ...wte, name: "onnx::MatMul_1", dims: [...wte.dims].reverse() };
    expect(findAccidents("m.onnx", [...tensors, copy]).map(({ kind }) => kind)).toEqual(["head-twice"]);
  });
});

describe("a head of the embedding's shape", () => {
  beforeAll(async () => {
    await writeCheckpoint(path("own-model"), { head: "own", width: 32, vocab: 50 });
    await exported(path("own-model"), path("own"), { precisions: PRECISIONS });
  });

  it.each(PRECISIONS)(
    "beside it is an accident in %s, and one matrix that serves as both is none",
    async (precision) => {
      const find = async (folder: string) =>
        findAccidents("m.onnx", await readHeaderTensors(`${path(folder)}/onnx/${nameModelFile(precision)}`));
      const [accident, ...others] = await find("own");
      expect({ kind: accident?.kind, others }).toEqual({ kind: "head-twice", others: [] });
      expect(accident?.text).toMatch(/stored twice, as wte\.weight\S* and lm_head\.weight\S*: tie it/);
      expect(await find("dense")).toEqual([]);
    },
  );
});

describe("files of ONNX Runtime's quantizer for blocks of 4 bits", () => {
  const [C, V] = [32, 50];
  const float = (name: string, dims: number[]): OnnxInitializer => {
    return { name, dtype: 1, dims, byteLength: 4 * dims.reduce((a, b) => a * b, 1), offset: 0, external: null };
  };
  const blocks = (name: string, K: number, N: number): OnnxInitializer => {
    return { name, dtype: 2, dims: [N, K / 32, 16], byteLength: (N * K) / 2, offset: 0, external: null };
  };
  const read = async (initializers: OnnxInitializer[], packed: [string, number][]) => {
    const structure = await readOnnxStructure(`${path("dense")}/onnx/model.onnx`);
    return readOnnxTensors({ ...structure, initializers, packed: new Map(packed) });
  };
  const block = "transformer.h.0.attn";

  it.each([
    ["", 3 * C, 3],
    ["", 2 * C, 2],
    ["_DQ", 3 * C, 3],
  ] as const)("c_attn with the name weight%s_Q4 and %d columns is %d widths", async (suffix, columns, parts) => {
    const name = `${block}.c_attn.weight${suffix}_Q4`;
    const codes = suffix ? { ...float(name, [C, columns]), dtype: 21 } : blocks(name, C, columns);
    const packed: [string, number][] = suffix ? [] : [[name, C * columns]];
    const tensors = await read([float("transformer.ln_f.weight", [C]), codes], packed);
    expect(findAttentionParts(findAttentionColumns(tensors))).toBe(parts);
  });

  it("a copy of the head in blocks beside the embedding in floats is an accident", async () => {
    const head = "onnx::MatMul_7_Q4";
    const tensors = await read([float("transformer.wte.weight", [V, C]), blocks(head, C, V)], [[head, V * C]]);
    expect(findAccidents("m.onnx", tensors).map(({ kind }) => kind)).toEqual(["head-twice"]);
    const other = await read([float("transformer.wte.weight", [V + 1, C]), blocks(head, C, V)], [[head, V * C]]);
    expect(findAccidents("m.onnx", other)).toEqual([]);
  });
});

describe("countPackedWeights", () => {
  const initializer = (name: string, dims: number[], dtype = 2): OnnxInitializer => {
    const byteLength = dims.reduce((product, dim) => product * dim, 1);
    return { name, dtype, dims, byteLength, offset: 0, external: null };
  };
  const codes = initializer("codes", [6, 2, 16]);
  const scales = initializer("scales", [6, 2], 1);
  const product = (K: number, N: number): NodeMessage => ({
    opType: "MatMulNBits",
    input: ["x", "codes", "scales"],
    attribute: [
      { name: "K", i: K },
      { name: "N", i: N },
    ],
  });
  const lookUp: NodeMessage = { opType: "GatherBlockQuantized", input: ["codes", "ids", "scales"] };

  it("a product gives the number of weights in its codes, without the padding of the last block", () => {
    const found = countPackedWeights([product(50, 6)], [codes, scales]);
    expect(Object.fromEntries(found)).toEqual({ codes: 300, scales: 0 });
  });

  it("a look-up counts all codes unless a product of the same matrix has a size, in either order", () => {
    expect(countPackedWeights([lookUp], [codes, scales]).get("codes")).toBe(384);
    expect(countPackedWeights([lookUp, product(50, 6)], [codes, scales]).get("codes")).toBe(300);
    expect(countPackedWeights([product(50, 6), lookUp], [codes, scales]).get("codes")).toBe(300);
  });

  it("nodes that only change shape or type are followed, and a loop of them ends", () => {
    const view = (opType: string, from: string, to: string): NodeMessage => ({ opType, input: [from], output: [to] });
    const nodes = [view("Reshape", "codes", "r"), view("Cast", "scales", "c"), { ...lookUp, input: ["r", "ids", "c"] }];
    expect(Object.fromEntries(countPackedWeights(nodes, [codes, scales]))).toEqual({ codes: 384, scales: 0 });
    const loop = [view("Cast", "b", "a"), view("Cast", "a", "b"), { ...lookUp, input: ["a", "ids", "a"] }];
    expect(countPackedWeights(loop, [codes, scales]).size).toBe(0);
  });

  it.each([
    ["more than the bytes can hold", 2 ** 40, 6],
    ["beyond exact numbers", 2 ** 50, 2 ** 50],
    ["negative", -50, 6],
  ])("sizes that are %s are not believed", (_, K, N) => {
    expect(countPackedWeights([product(K, N)], [codes, scales]).has("codes")).toBe(false);
  });

  it("names of object prototypes and missing inputs are ignored", () => {
    const nodes: NodeMessage[] = [{ opType: "constructor", input: ["codes"] }, { opType: "MatMulNBits" }, {}];
    expect(countPackedWeights(nodes, [codes, scales]).size).toBe(0);
  });
});
