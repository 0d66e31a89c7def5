// The model of an ONNX file without its weights: all else stays, and the weights are named by their places in the file.
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { viewBytes } from "../../../src/formats/dtype.ts";
import { readModelOutsideWeights } from "../../../src/formats/onnx/outside-weights.ts";
import { readOnnxStructure } from "../../../src/formats/onnx/reader.ts";
import { Graph } from "../../../src/graph/ir.ts";
import { add, gemm } from "../../../src/graph/ops.ts";
import { streamOnnx } from "../../../src/graph/to-onnx.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("outside-weights");
const SIDE = 64;
const large = Float32Array.from({ length: SIDE * SIDE }, (_, i) => i);
const small = Float32Array.from({ length: SIDE }, (_, i) => -i);

/** x·W + b with W of 16 kB and b of 256 bytes. */
async function writeModel(name: string): Promise<string> {
  const graph = new Graph();
  const x = graph.input("x", "float32", ["rows", SIDE]);
  const product = gemm(x, graph.parameter("large", [SIDE, SIDE]));
  graph.output(add(product, graph.parameter("small", [SIDE])), "y");
  const data = ({ name: own }: { name: string }) => {
    const bytes = viewBytes(own === "large" ? large : small);
    return {
      byteLength: bytes.byteLength,
      async *chunks() {
        yield bytes;
      },
    };
  };
  mkdirSync(path(name));
  const file = join(path(name), "model.onnx");
  const pieces: Uint8Array[] = [];
  for await (const piece of streamOnnx(graph, { parameters: data, metadata: { precision: "fp32" } }))
    pieces.push(Uint8Array.from(piece));
  writeFileSync(file, Buffer.concat(pieces));
  return file;
}

describe("a model without its weights", () => {
  it("names large weights by their places in the file, and keeps small ones and all else", async () => {
    const file = await writeModel("own");
    const model = await readModelOutsideWeights(file);
    const outside = join(path("own"), "outside.onnx");
    writeFileSync(outside, model);
    expect(model.byteLength).toBeLessThan(readFileSync(file).byteLength - large.byteLength / 2);
    const [before, after] = [await readOnnxStructure(file), await readOnnxStructure(outside)];
    const { initializers: inside, path: _, fileBytes: __, ...rest } = before;
    expect(after).toMatchObject(rest);
    expect(after.initializers.map(({ name, dims, dtype }) => [name, dims, dtype])).toEqual(
      inside.map(({ name, dims, dtype }) => [name, dims, dtype]),
    );
    const moved = after.initializers.find(({ name }) => name === "large");
    expect(moved?.external).toEqual({
      location: "model.onnx",
      offset: inside.find(({ name }) => name === "large")?.offset,
      length: large.byteLength,
    });
    const offset = moved?.external?.offset as number;
    expect(
      readFileSync(file)
        .subarray(offset, offset + large.byteLength)
        .equals(viewBytes(large)),
    ).toBe(true);
    expect(after.initializers.find(({ name }) => name === "small")?.external).toBeNull();
  });

  it("is the file itself where its weights are in another one already", async () => {
    const outside = join(path("own"), "outside.onnx");
    copyFileSync(outside, path("again.onnx"));
    expect(Buffer.from(await readModelOutsideWeights(path("again.onnx")))).toEqual(readFileSync(outside));
  });
});
