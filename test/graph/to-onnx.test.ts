// Serialised models, read back by an independent decoder (onnx-proto) and run by ONNX Runtime.
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Graph, pruneGraph } from "../../src/graph/ir.ts";
import { add, gelu, gemm, mul, reduceSum } from "../../src/graph/ops.ts";
import { makeFloat32Tensor, Session } from "../../src/graph/session.ts";
import { type EncodeOptions, encodeOnnx, streamOnnx } from "../../src/graph/to-onnx.ts";

const { onnx } = createRequire(import.meta.url)("onnx-proto") as typeof import("onnx-proto");

/** y = gelu(x·w + 1); a dead branch uses `unused`. */
function model(): Graph {
  const graph = new Graph();
  const x = graph.input("x", "float32", ["rows", 2]);
  const y = gelu(add(gemm(x, graph.parameter("w", [2, 2])), graph.scalar(1)), "tanh");
  mul(y, graph.parameter("unused", [2]));
  graph.output(y, "y");
  return graph;
}

const weight = Float32Array.of(1, 0, 0, 1);
const bytes = new Uint8Array(weight.buffer);
const inline: EncodeOptions = {
  parameters: () => ({
    byteLength: bytes.byteLength,
    async *chunks() {
      yield bytes.subarray(0, 5);
      yield bytes.subarray(5);
    },
  }),
  producer: { name: "nfc", version: "1.2.3" },
  metadata: { variant: "symmetric" },
};

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(Uint8Array.from(chunk));
  return Buffer.concat(parts);
}

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "nfc-onnx-"));
});
afterAll(() => rm(folder, { recursive: true }));

const x = makeFloat32Tensor(Float32Array.of(0, 1), [1, 2]);

describe("writing a graph as ONNX", () => {
  test("an independent decoder reads everything back", async () => {
    const decoded = onnx.ModelProto.decode(await collect(streamOnnx(model(), inline)));
    expect(Number(decoded.irVersion)).toBe(9);
    expect(decoded.opsetImport.map(({ domain, version }) => [domain, Number(version)])).toEqual([["", 20]]);
    expect([decoded.producerName, decoded.producerVersion]).toEqual(["nfc", "1.2.3"]);
    expect(decoded.metadataProps.map(({ key, value }) => [key, value])).toEqual([["variant", "symmetric"]]);
    const { graph } = decoded;
    expect(graph?.node?.map((node) => node.opType)).toEqual(["Gemm", "Add", "Gelu"]);
    const attribute = graph?.node?.[2]?.attribute?.[0];
    expect(Buffer.from(attribute?.s ?? []).toString()).toBe("tanh");
    const stored = graph?.initializer?.find(({ name }) => name === "w");
    expect(stored?.dims?.map(Number)).toEqual([2, 2]);
    expect(Buffer.from(stored?.rawData ?? [])).toEqual(Buffer.from(bytes));
    const dims = graph?.input?.[0]?.type?.tensorType?.shape?.dim;
    expect(dims?.map((dim) => dim.dimParam || Number(dim.dimValue))).toEqual(["rows", 2]);
  });

  test("dead nodes and the weights that only they use are left out", () => {
    const live = pruneGraph(model());
    expect(live.nodes.map(({ op }) => op)).toEqual(["Gemm", "Add", "Gelu"]);
    expect(live.parameters.map(({ name }) => name)).toEqual(["w"]);
  });

  test("the same graph gives the same bytes", async () => {
    expect(await collect(streamOnnx(model(), inline))).toEqual(await collect(streamOnnx(model(), inline)));
  });

  test("inline, external and fed weights run alike", async () => {
    // ½x(1 + tanh(√(2/π)(x + 0.044715x³))) at 1 and 2.
    const expected = [1, 2].map((v) => 0.5 * v * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3))));
    const check = (values: ArrayLike<unknown> = []) => {
      expect(values.length).toBe(2);
      for (const [i, value] of expected.entries()) expect(Number(values[i])).toBeCloseTo(value, 6);
    };
    const paths = { inline: join(folder, "inline.onnx"), external: join(folder, "external.onnx") };
    await writeFile(paths.inline, await collect(streamOnnx(model(), inline)));
    await writeFile(join(folder, "data"), Buffer.concat([Buffer.alloc(3), bytes]));
    const place = { location: "data", offset: 3, byteLength: 16 };
    await writeFile(paths.external, encodeOnnx(model(), { parameters: () => place }));
    for (const path of Object.values(paths)) {
      const session = await Session.fromFile(path);
      check((await session.run({ x })).y?.data);
      await session.close();
    }
    const fed = await Session.withInputs(model());
    const result = await fed.run({ x, w: makeFloat32Tensor(weight, [2, 2]) });
    check(result.y?.data);
    const owned = await Session.withWeights(model(), () => weight);
    check((await owned.run({ x })).y?.data);
    await Promise.all([fed.close(), owned.close()]);
  });

  test("float, list and integer attributes keep their kinds", () => {
    const graph = new Graph();
    const a = graph.input("a", "float32", [2, 2]);
    graph.output(reduceSum(gemm(a, a, { alpha: 0.5, transA: true }), [0]), "y");
    const [first] = onnx.ModelProto.decode(encodeOnnx(graph, { parameters: "inputs" })).graph?.node ?? [];
    const kinds = first?.attribute?.map(({ name, type, f, i }) => [name, type, f || Number(i)]);
    expect(kinds).toEqual([
      ["transA", 2, 1],
      ["alpha", 1, 0.5],
    ]);
  });

  test("a file over 2 GiB is refused before a byte is written", async () => {
    const graph = new Graph();
    const w = graph.parameter("w", [30_000, 20_000]);
    graph.output(gemm(graph.input("x", "float32", [1, 30_000]), w), "y");
    const huge = { byteLength: 2_400_000_000, chunks: () => collectNothing() };
    await expect(streamOnnx(graph, { parameters: () => huge }).next()).rejects.toThrow(/one file holds 2 GiB at most/);
  });

  test("a stored tensor needs a static shape", () => {
    const graph = new Graph();
    graph.output(mul(graph.input("x", "float32", ["n"]), graph.parameter("w", ["n"])), "y");
    const place = { location: "data", offset: 0, byteLength: 4 };
    expect(() => encodeOnnx(graph, { parameters: () => place })).toThrow(
      "w: a stored tensor needs a static shape, has n",
    );
  });
});

test("a file that is no model is refused in one line", async () => {
  const path = join(folder, "broken.onnx");
  await writeFile(path, "not a model");
  await expect(Session.fromFile(path)).rejects.toMatchObject({
    code: "invalid-file",
    message: expect.stringMatching(/^[^\n]*broken\.onnx: ONNX Runtime refuses it: [^\n]*$/),
  });
  expect(await readFile(path, "utf8")).toBe("not a model");
});

async function* collectNothing(): AsyncGenerator<Uint8Array> {}
