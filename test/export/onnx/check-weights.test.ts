// Weights read back from a written file: one wrong row, scale or bit ends the export in every precision and storage.
import { mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, expect, it } from "vitest";
import type { OnnxExportOptions } from "../../../src/export/onnx/onnx-export.ts";
import { readOnnxStructure } from "../../../src/formats/onnx/reader.ts";
import type { OnnxInitializer } from "../../../src/formats/onnx/structure.ts";
import { nameModelFile, type Precision } from "../../../src/model/precision.ts";
import { exported, modelOf, TEXTLESS as PRECISIONS } from "../../support/exported.ts";
import { failureOf } from "../../support/failure.ts";
import { MODEL } from "../../support/fixture.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("stored-weights");
const [VOCABULARY, WIDTH] = [384, 64];
let count = 0;

/** What is done to a weight's bytes. */
type Damage = (bytes: Buffer) => void;

/** Row `row` of `rows` is negated bit by bit. */
const invertRow =
  (row: number, rows: number): Damage =>
  (bytes) => {
    const size = bytes.length / rows;
    for (let i = row * size; i < (row + 1) * size; i++) bytes[i] = (bytes[i] as number) ^ 0xff;
  };
const doubleHalf =
  (at: number): Damage =>
  (bytes) => {
    bytes.writeUInt16LE(bytes.readUInt16LE(2 * at) + 0x400, 2 * at); // the exponent, plus 1
  };
const doubleFloat =
  (at: number): Damage =>
  (bytes) => {
    bytes.writeFloatLE(2 * bytes.readFloatLE(4 * at), 4 * at);
  };
const lastBit: Damage = (bytes) => {
  bytes[bytes.length - 1] = (bytes[bytes.length - 1] as number) ^ 1;
};

/** Exports the model, and changes its file behind the command's back before it is looked at. */
async function failureWith(
  options: Partial<OnnxExportOptions>,
  spoil: (file: string, weights: Map<string, OnnxInitializer>) => void,
  model = MODEL,
) {
  const parent = path(`w${count++}`);
  mkdirSync(parent);
  const name = nameModelFile(options.precisions?.[0] ?? "fp32");
  // The same export once before says where the weights are: a callback cannot wait for the reader.
  await exported(model, `${parent}-first`, options);
  const { initializers } = await readOnnxStructure(join(`${parent}-first`, "onnx", name));
  const weights = new Map(initializers.map((initializer) => [initializer.name, initializer]));
  const output = join(parent, "out");
  const onProgress = ({ phase }: { phase: string }) => {
    if (!phase.endsWith(": verifying")) return;
    const files = readdirSync(parent, { recursive: true }) as string[];
    const file = files.find((each) => basename(each) === name) as string;
    spoil(join(parent, file), weights);
  };
  const error = await failureOf(() => exported(model, output, { ...options, onProgress }));
  expect(readdirSync(parent)).toEqual([]);
  return { error, onnx: join(output, "onnx") };
}

/** The change of one weight, wherever its bytes lie. */
const spoilt =
  (name: string, damage: Damage) =>
  (file: string, weights: Map<string, OnnxInitializer>): void => {
    const { external, offset, byteLength } = weights.get(name) as OnnxInitializer;
    const place = external ? join(file, "..", external.location) : file;
    const bytes = readFileSync(place);
    const start = external?.offset ?? (offset as number);
    damage(bytes.subarray(start, start + byteLength));
    writeFileSync(place, bytes);
  };

const QUANTISED: Precision[] = ["uint8", "q4", "q4f16"];
const CASES: [Precision, string, string, Damage][] = [
  ...(["fp32", "fp16"] as const).map(
    (precision) => [precision, "a row", "h.1.mlp.c_fc.weight", invertRow(63, WIDTH)] as const,
  ),
  ["int8", "a row", "h.1.mlp.c_fc.weight/int8", invertRow(63, WIDTH)],
  ["int8", "a row of the embedding", "wte.weight/int8", invertRow(VOCABULARY - 1, VOCABULARY)],
  ["int8", "a scale", "h.0.attn.c_attn.weight/int8/scales", doubleFloat(7)],
  ...QUANTISED.flatMap((precision) => [
    [precision, "a channel", "h.1.mlp.c_fc.weight/values", invertRow(200, 256)] as const,
    [precision, "a row of the embedding", "wte.weight/values", invertRow(VOCABULARY - 1, VOCABULARY)] as const,
    [precision, "the scale of one block", "h.0.mlp.c_proj.weight/scales", doubleHalf(5)] as const,
    [precision, "a zero point", "h.0.attn.c_proj.weight/zero_points", lastBit] as const,
  ]),
  ...PRECISIONS.map((precision) => [precision, "one bit of a bias", "h.1.mlp.c_proj.bias", lastBit] as const),
] as [Precision, string, string, Damage][];

describe("weights that are checked after writing", () => {
  it.each(CASES)("a %s file with %s wrong is no output", async (precision, _, name, damage) => {
    const { error, onnx } = await failureWith({ precisions: [precision] }, spoilt(name, damage));
    expect(error.code).toBe("mismatch");
    // The path is that of the output, not of the folder in which it is made.
    expect(error.message).toBe(`${join(onnx, nameModelFile(precision))}: ${name}: read back, its bytes differ`);
    expect(error.hint).toBeTruthy();
  });

  it.each(["external", "shared"] as const)("one wrong bit in %s weights is refused", async (weights) => {
    const { error } = await failureWith({ weights }, spoilt("h.0.mlp.c_fc.weight", lastBit));
    expect(error.code).toBe("mismatch");
    expect(error.message).toContain(": h.0.mlp.c_fc.weight: ");
  });

  it("external weights that end too early are refused", async () => {
    const { error } = await failureWith({ weights: "external" }, (file) => truncateSync(`${file}_data`, 5000));
    expect(error.code).toBe("io");
    expect(error.message).toContain("model.onnx_data: the file ends at byte 5000");
  });

  it("one wrong bit is refused in a graph that draws noise, whose logits cannot be compared", async () => {
    const model = await modelOf("noise-shared", path("noisy"));
    const options = { noise: { kind: "generated", seed: 1 } as const };
    const { error } = await failureWith(options, spoilt("h.0.mlp.c_fc.weight", lastBit), model);
    expect(error.code).toBe("mismatch");
    expect(error.message).toContain(": h.0.mlp.c_fc.weight: ");
  });

  it("a weight under another name, or of another shape, is refused", async () => {
    const rename = (from: string, to: string) => (file: string) => {
      const text = readFileSync(file, "latin1");
      writeFileSync(file, text.replaceAll(from, to), "latin1");
    };
    const { error } = await failureWith({}, rename("h.1.mlp.c_proj.bias", "h.1.mlp.c_proj.bend"));
    expect(error.message).toMatch(/: h\.1\.mlp\.c_proj\.bias: read back, it is another tensor$/);
    // TensorProto of ln_f.bias: dims 64 (08 40), data_type 1 (10 01), name (42 09). 32 values instead of 64:
    const { error: shape } = await failureWith(
      {},
      rename("\x08\x40\x10\x01\x42\x09ln_f.bias", "\x08\x20\x10\x01\x42\x09ln_f.bias"),
    );
    expect(shape.message).toMatch(/: tensor "ln_f\.bias" has 256 bytes, its shape and dtype ask for 128$/);
  });
});
