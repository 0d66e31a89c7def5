// Cutting JSON into values: whatever the values and wherever the pieces of text end, the values come out whole.
import fc from "fast-check";
import { expect, test } from "vitest";
import { JsonCutter } from "../../src/io/json-values.ts";

function cut(shape: "array" | "values", text: string, piece: number): string[] {
  const cutter = new JsonCutter(shape);
  const found: string[] = [];
  for (let start = 0; start < text.length; start += piece)
    for (const { json } of cutter.push(text.slice(start, start + piece))) found.push(json);
  if (cutter.rest) found.push(cutter.rest.json);
  return found;
}

const values = fc.array(fc.jsonValue(), { maxLength: 6 });
const layout = fc.record({ values, indent: fc.integer({ min: 0, max: 3 }), piece: fc.integer({ min: 1, max: 40 }) });

test("the elements of an array come out one by one", () => {
  fc.assert(
    fc.property(layout, ({ values, indent, piece }) => {
      const found = cut("array", JSON.stringify(values, null, indent), piece);
      expect(found.map((json) => JSON.parse(json))).toEqual(JSON.parse(JSON.stringify(values)));
    }),
  );
});

test("values that follow each other come out one by one", () => {
  fc.assert(
    fc.property(layout, ({ values, indent, piece }) => {
      const text = values.map((value) => JSON.stringify(value, null, indent)).join("\n");
      expect(cut("values", text, piece).map((json) => JSON.parse(json))).toEqual(JSON.parse(JSON.stringify(values)));
    }),
  );
});

test("each value has the number of the line that it begins on", () => {
  const cutter = new JsonCutter("array");
  const lines = [...cutter.push('[\n"a",\n\n{"b":\n1},"c"]')].map(({ line }) => line);
  expect(lines).toEqual([2, 4, 5]);
});
