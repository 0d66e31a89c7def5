// Exports whose graphs compute other shapes than they declare: each command refuses them in one line.
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import type { onnx as Onnx } from "onnx-proto";
import { beforeAll, describe, expect, it } from "vitest";
import { nfc } from "../../support/cli.ts";
import { exported } from "../../support/exported.ts";
import { MODEL, TEXT } from "../../support/fixture.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const { onnx } = createRequire(import.meta.url)("onnx-proto") as { onnx: typeof Onnx };
const path = temporaryFolder("wrong-outputs");

beforeAll(() => exported(MODEL, path("whole")));

/** The export with an output that is cut to `end` along an axis, under its old declaration. */
function cut(name: string, output: string, axis: number, end: number): string {
  cpSync(path("whole"), path(name), { recursive: true });
  const file = join(path(name), "onnx/model.onnx");
  const model = onnx.ModelProto.decode(readFileSync(file));
  const graph = model.graph as Onnx.GraphProto;
  for (const node of graph.node ?? [])
    node.output = (node.output ?? []).map((each) => (each === output ? `${output}/whole` : each));
  const numbers = { starts: 0, ends: end, axes: axis };
  for (const [key, value] of Object.entries(numbers))
    graph.initializer?.push(
      onnx.TensorProto.create({ name: `cut/${key}`, dims: [1], dataType: 7, int64Data: [value] }),
    );
  const input = [`${output}/whole`, ...Object.keys(numbers).map((key) => `cut/${key}`)];
  graph.node?.push(onnx.NodeProto.create({ opType: "Slice", input, output: [output] }));
  writeFileSync(file, onnx.ModelProto.encode(model).finish());
  return path(name);
}

describe("a graph that computes less than it declares", () => {
  it.each([
    ["logits", 2, 100, /its graph computes logits \[1, \d+, 100\], not \[1, \d+, 384\]; export the model again/],
    ["present.0.key", 2, 1, /its graph computes present\.0\.key \[1, 4, 1, 16\], not \[1, 4, \d+, 16\]/],
  ])("%s is refused by nfc generate", async (output, axis, end, message) => {
    const model = cut(`generate-${output}`, output, axis, end);
    const { code, stderr } = await nfc(["generate", model, "--prompt", "Once upon", "-n", "2", "-q"]);
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringMatching(message) });
    expect(stderr).toMatch(/^nfc: [^\n]+\n$/);
  });

  it("narrow logits are refused by nfc eval", async () => {
    const model = cut("eval", "logits", 2, 100);
    const { code, stderr } = await nfc(["eval", model, "--text", TEXT, "--length", "16", "-q"]);
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringMatching(/^nfc: \S+model\.onnx: [^\n]+\n$/) });
  });
});

it("narrow logits of a stored head are refused by every command that reads the file, nfc check with exit code 3", async () => {
  const model = path("narrow");
  cpSync(path("whole"), model, { recursive: true });
  const file = join(model, "onnx/model.onnx");
  const proto = onnx.ModelProto.decode(readFileSync(file));
  const graph = proto.graph as Onnx.GraphProto;
  const head = graph.initializer?.find(({ name }) => name === "wte.weight") as Onnx.TensorProto;
  head.dims = [100, 64];
  head.rawData = head.rawData.subarray(0, 4 * 6400);
  writeFileSync(file, onnx.ModelProto.encode(proto).finish());
  const message = /logits is declared 384 wide, but its weights make it 100 wide/;
  for (const line of [
    ["generate", model, "--prompt", "a"],
    ["eval", model, "--text", TEXT],
    ["serve", model, "--port", "0"],
    ["report", model],
  ]) {
    const { code, stderr } = await nfc([...line, "-q"]);
    expect({ line, code, stderr }).toEqual({ line, code: 2, stderr: expect.stringMatching(message) });
  }
  writeFileSync(path("nfc.size.json"), JSON.stringify({ models: [{ path: "narrow/onnx/model.onnx" }] }));
  const { code, stdout } = await nfc(["check", "--config", path("nfc.size.json"), "-q"]);
  expect({ code, stdout }).toEqual({ code: 3, stdout: expect.stringMatching(message) });
});

it("nfc check refuses hostile external data and tensors larger than their data with exit code 3", async () => {
  const spoilers: [string, (head: Onnx.TensorProto) => void, RegExp][] = [
    ["NUL", (head) => Object.assign(head, outside("model\0.bin")), /is no name of a file/],
    ["absolute", (head) => Object.assign(head, outside("/etc/passwd")), /leaves the model's folder/],
    ["beyond", (head) => Object.assign(head, outside("../nfc.size.json", "1000000")), /leaves the model's folder/],
    ["larger", (head) => Object.assign(head, { dims: [2 ** 20, 64] }), /shape and dtype ask for 268435456/],
  ];
  for (const [name, spoil, message] of spoilers) {
    cpSync(path("whole"), path(name), { recursive: true });
    const file = join(path(name), "onnx/model.onnx");
    const proto = onnx.ModelProto.decode(readFileSync(file));
    spoil(proto.graph?.initializer?.find((each) => each.name === "wte.weight") as Onnx.TensorProto);
    writeFileSync(file, onnx.ModelProto.encode(proto).finish());
    writeFileSync(path("nfc.size.json"), JSON.stringify({ models: [{ path: `${name}/onnx/model.onnx` }] }));
    const { code, stdout } = await nfc(["check", "--config", path("nfc.size.json"), "-q"]);
    expect({ name, code, stdout }).toEqual({ name, code: 3, stdout: expect.stringMatching(message) });
  }
});

function outside(location: string, offset = "0"): Partial<Onnx.TensorProto> {
  const externalData = Object.entries({ location, offset }).map(([key, value]) => ({ key, value }));
  return { rawData: new Uint8Array(0), dataLocation: 1, externalData } as unknown as Partial<Onnx.TensorProto>;
}
