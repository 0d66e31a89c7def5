// Which ONNX files compute with 16-bit floats: a cast of a stored table does not count, whatever reads one does.
import { describe, expect, it } from "vitest";
import { usesHalfFloats } from "../../../src/formats/onnx/half-floats.ts";
import type { NodeMessage } from "../../../src/formats/onnx/messages.ts";

const [FLOAT, HALF] = [1, 10];
const value = (dtype: number) => ({ name: "x", dtype, dims: [1] });
const stored = (name: string, dtype: number) => ({
  ...{ name, dtype, dims: [1], byteLength: 2, offset: 0, external: null },
});
const cast = (input: string, to: number): NodeMessage => ({
  ...{ opType: "Cast", input: [input], output: ["y"] },
  attribute: [{ name: "to", i: to }],
});
const gather = (table: string): NodeMessage => ({ opType: "Gather", input: [table, "ids"], output: ["y"] });

const file = {
  inputs: [value(FLOAT)],
  outputs: [value(FLOAT)],
  initializers: [stored("half", HALF), stored("full", FLOAT)],
};

describe("usesHalfFloats", () => {
  it.each<[string, NodeMessage[], Partial<typeof file>, boolean]>([
    ["a lookup in a float16 table", [gather("half")], {}, true],
    ["a cast of the table before the lookup", [cast("half", FLOAT), gather("y")], {}, false],
    ["a lookup in a float32 table", [gather("full")], {}, false],
    ["a cast to float16", [cast("x", HALF)], {}, true],
    ["a float16 input", [], { inputs: [value(HALF)] }, true],
    ["a float16 output", [], { outputs: [value(HALF)] }, true],
  ])("%s: %#", (_, nodes, changes, expected) => {
    expect(usesHalfFloats(nodes, { ...file, ...changes })).toBe(expected);
  });
});
