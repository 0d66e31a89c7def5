// The reader of ONNX structures: equal to an independent decoder on real exports; weights stay unread.
import { createHash } from "node:crypto";
import { closeSync, ftruncateSync, openSync, readFileSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { onnx as Onnx } from "onnx-proto";
import { beforeAll, describe, expect, it } from "vitest";
import { encodeMessage } from "../../../src/formats/onnx/encode.ts";
import { countTensorBytes } from "../../../src/formats/onnx/initializers.ts";
import { readOnnxStructure } from "../../../src/formats/onnx/reader.ts";
import { changedProto, externalTensor } from "../../inference/exported/exported-fixture.ts";
import { decoded, exported, modelOf } from "../../support/exported.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";
import { bytes, key, structureReader, type Write } from "./messages.ts";

const path = temporaryFolder("onnx-reader");
const read = structureReader("onnx-read");

const digest = (data: Uint8Array) => createHash("sha256").update(data).digest("hex");

function inputOf({ name, type }: Onnx.IValueInfoProto) {
  const dims = (type?.tensorType?.shape?.dim ?? []).map(({ dimParam, dimValue }) => dimParam || Number(dimValue));
  return { name, dtype: type?.tensorType?.elemType, dims };
}

function weightOf(tensor: Onnx.ITensorProto) {
  const entries = Object.fromEntries((tensor.externalData ?? []).map((entry) => [entry.key, entry.value]));
  const external = tensor.dataLocation
    ? { location: entries.location, offset: Number(entries.offset), length: Number(entries.length) }
    : null;
  const byteLength = external?.length ?? tensor.rawData?.byteLength;
  return { name: tensor.name, dtype: tensor.dataType, dims: tensor.dims?.map(Number), byteLength, external };
}

describe("the ONNX reader on real exports", () => {
  const storages = ["inline", "external", "shared"] as const;
  const variants = ["dense", "noise-distance"] as const;
  const folderOf = (variant: string, weights: string) => path(`${variant}-${weights}`);
  beforeAll(async () => {
    for (const variant of variants) {
      const model = await modelOf(variant, path(variant));
      for (const weights of storages) await exported(model, folderOf(variant, weights), { weights });
    }
  });

  it.each(variants.flatMap((variant) => storages.map((weights) => [variant, weights] as const)))(
    "the export of %s with weights %s is read as onnx-proto decodes it",
    async (variant, weights) => {
      const folder = folderOf(variant, weights);
      const file = join(folder, "onnx/model.onnx");
      const { model, graph } = decoded(folder);
      const structure = await readOnnxStructure(file);
      expect(structure.fileBytes).toBe(statSync(file).size);
      expect(structure.inputs).toEqual(graph.input.map(inputOf));
      expect(structure.outputs).toEqual(graph.output.map(inputOf));
      expect(structure.initializers.map(({ offset: _, ...rest }) => rest)).toEqual(graph.initializer.map(weightOf));
      const whole = readFileSync(file);
      for (const [i, { offset, byteLength }] of structure.initializers.entries()) {
        const raw = graph.initializer[i]?.rawData as Uint8Array;
        if (offset === null) expect(raw.byteLength).toBe(0);
        else expect(digest(whole.subarray(offset, offset + byteLength))).toBe(digest(raw));
      }
      expect(structure.irVersion).toBe(Number(model.irVersion));
      expect(structure.opsets).toEqual(new Map(model.opsetImport.map((one) => [one.domain, Number(one.version)])));
      expect(structure.metadata).toEqual(new Map(model.metadataProps.map((one) => [one.key, one.value])));
      expect(structure.metadata.get("variant")).toBe(variant);
      expect(structure.producer).toEqual({ name: model.producerName, version: model.producerVersion });
      const counts = new Map<string, number>();
      for (const { opType } of graph.node) counts.set(opType as string, (counts.get(opType as string) ?? 0) + 1);
      expect(new Map(structure.ops.map((op) => [op.type, op.count]))).toEqual(counts);
      expect(structure).toMatchObject({ subgraphs: [], functions: 0, sparse: 0, externalAttributes: 0 });
    },
  );
});

describe("the structure of an ONNX file", () => {
  it("weights stay unread: a file of 2 GB, most of it a hole, opens at once", async () => {
    const length = 2 ** 31 - 2 ** 20;
    const raw = bytes((w) => w.uint32(key(9, 2)).uint32(length));
    const header = encodeMessage("TensorProto", { name: "wte.weight", dims: [length / 4], dataType: 1 });
    const tensorLength = header.byteLength + raw.byteLength + length;
    const frame = bytes((w) => w.uint32(key(5, 2)).uint32(tensorLength));
    const front = Buffer.concat([
      bytes((w) =>
        w
          .uint32(key(1, 0))
          .int64(9)
          .uint32(key(7, 2))
          .uint32(frame.byteLength + tensorLength),
      ),
      frame,
      header,
      raw,
    ]);
    const file = openSync(path("large.onnx"), "w");
    writeSync(file, front);
    ftruncateSync(file, front.byteLength + length);
    closeSync(file);
    const memory = process.memoryUsage.rss();
    const started = performance.now();
    const { initializers } = await readOnnxStructure(path("large.onnx"));
    expect(performance.now() - started).toBeLessThan(2000);
    expect(process.memoryUsage.rss() - memory).toBeLessThan(200 * 2 ** 20);
    const weight = { name: "wte.weight", dtype: 1, dims: [length / 4], byteLength: length, external: null };
    expect(initializers).toEqual([{ ...weight, offset: front.byteLength }]);
  });

  it("ops with graphs of their own, functions, sparse tensors and external attributes are named", async () => {
    const external = externalTensor("c", [1], { location: "/etc/passwd" });
    const structure = await read(
      changedProto((model) => {
        model.functions = [Uint8Array.of(1, 2, 3)];
        model.graph.sparseInitializer = [new Uint8Array(0)];
        model.graph.node = [
          { opType: "If", attribute: [{ name: "then_branch", g: Uint8Array.of(255, 255) }] },
          { opType: "Scan", attribute: [{ name: "body", graphs: [new Uint8Array(0)] }] },
          { opType: "Constant", attribute: [{ name: "value", t: external }] },
          { opType: "Constant", attribute: [{ name: "value", sparseTensor: Uint8Array.of(1) }] },
          { opType: "Add", domain: "ai.onnx" },
          { opType: "Add" },
        ];
      }),
    );
    expect(structure).toMatchObject({ subgraphs: ["If", "Scan"], functions: 1, sparse: 2, externalAttributes: 1 });
    expect(structure.ops).toContainEqual({ domain: "", type: "Add", count: 2 });
    expect(structure.ops).toContainEqual({ domain: "", type: "Constant", count: 2 });
  });

  it("a model in parts is read as their sum, with packed shapes and the newest of two operator sets", async () => {
    const graph = (write: Write) => bytes((w) => w.uint32(key(7, 2)).bytes(bytes(write)));
    const tensor = bytes((w) =>
      w
        .uint32(key(1, 2))
        .fork()
        .int64(3)
        .int64(5)
        .ldelim()
        .uint32(key(2, 0))
        .int32(1)
        .uint32(key(9, 2))
        .bytes(new Uint8Array(60)),
    );
    const opset = (domain: string, version: number) =>
      bytes((w) =>
        w
          .uint32(key(8, 2))
          .bytes(encodeMessage("ModelProto", {}))
          .uint32(key(8, 2))
          .fork()
          .uint32(key(1, 2))
          .string(domain)
          .uint32(key(2, 0))
          .int64(version)
          .ldelim(),
      );
    const structure = await read(
      Buffer.concat([
        graph((w) => w.uint32(key(5, 2)).bytes(tensor)),
        bytes((w) => w.uint32(key(1, 0)).int64(8)),
        graph((w) => w.uint32(key(1, 2)).fork().uint32(key(4, 2)).string("Add").ldelim()),
        opset("ai.onnx", 17),
        opset("", 13),
        bytes((w) => w.uint32(key(99, 1)).double(1).uint32(key(98, 5)).float(1).uint32(key(97, 2)).string("unknown")),
      ]),
    );
    expect(structure.initializers).toMatchObject([{ dims: [3, 5], dtype: 1 }]);
    expect(structure.ops).toEqual([{ domain: "", type: "Add", count: 1 }]);
    expect(structure.opsets).toEqual(new Map([["", 17]]));
  });

  it("lists of numbers are measured, and a dimension of -1 is a free one", async () => {
    const ten = bytes((w) =>
      w
        .uint32(key(8, 2))
        .string("w")
        .uint32(key(1, 0))
        .int64(2)
        .uint32(key(2, 0))
        .int32(1)
        .uint32(key(4, 2))
        .fork()
        .float(1)
        .float(2)
        .ldelim(),
    );
    const io = bytes((w) =>
      w
        .uint32(key(1, 2))
        .string("x")
        .uint32(key(2, 2))
        .fork()
        .uint32(key(1, 2))
        .fork()
        .uint32(key(1, 0))
        .int32(7)
        .uint32(key(2, 2))
        .fork()
        .uint32(key(1, 2))
        .fork()
        .uint32(key(1, 0))
        .int64(-1)
        .ldelim()
        .uint32(key(1, 2))
        .fork()
        .ldelim()
        .ldelim()
        .ldelim()
        .ldelim(),
    );
    const graph = bytes((w) => w.uint32(key(5, 2)).bytes(ten).uint32(key(11, 2)).bytes(io));
    const structure = await read(bytes((w) => w.uint32(key(1, 0)).int64(8).uint32(key(7, 2)).bytes(graph)));
    expect(structure.initializers).toMatchObject([{ name: "w", byteLength: 8, offset: null }]);
    expect(structure.inputs).toEqual([{ name: "x", dtype: 7, dims: [null, null] }]);
  });

  it("bytes are counted for packed dtypes", () => {
    expect(countTensorBytes(1, [3, 5])).toBe(60);
    expect(countTensorBytes(22, [3, 5])).toBe(8);
    expect(countTensorBytes(10, [])).toBe(2);
    expect(countTensorBytes(8, [3])).toBeNull();
  });
});
