// Windows as Hugging Face's perplexity recipe makes them, and the calibration's first windows.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { cutWindows, takeWindows } from "../../src/checkpoint/tokens.ts";

async function* stream(count: number, piece = 7): AsyncGenerator<number[]> {
  for (let at = 0; at < count; at += piece) yield Array.from({ length: Math.min(piece, count - at) }, (_, i) => at + i);
}

/** The recipe: begin, end and fresh tokens of each window. */
function recipe(count: number, length: number, stride: number): number[][] {
  const result: number[][] = [];
  let previous = 0;
  for (let begin = 0; begin < count; begin += stride) {
    const end = Math.min(begin + length, count);
    result.push([begin, end, end - previous]);
    previous = end;
    if (end === count) break;
  }
  return result;
}

async function ours(count: number, length: number, stride: number, piece?: number): Promise<number[][]> {
  const result: number[][] = [];
  for await (const { ids, fresh } of cutWindows(stream(count, piece), { length, stride }))
    result.push([ids[0] as number, (ids.at(-1) as number) + 1, fresh]);
  return result;
}

describe("windows of a text", () => {
  test("windows are those of Hugging Face's recipe for any length, stride and piece", async () => {
    const sizes = fc.record({
      count: fc.integer({ min: 1, max: 90 }),
      length: fc.integer({ min: 2, max: 20 }),
      piece: fc.integer({ min: 1, max: 30 }),
    });
    await fc.assert(
      fc.asyncProperty(sizes, fc.integer({ min: 1, max: 20 }), async ({ count, length, piece }, step) => {
        const stride = Math.min(step, length);
        expect(await ours(count, length, stride, piece)).toEqual(recipe(count, length, stride));
      }),
    );
  });

  test("every token is fresh in exactly one window", async () => {
    const fresh = (await ours(1000, 64, 24)).reduce((sum, [, , count]) => sum + (count as number), 0);
    expect(fresh).toBe(1000);
  });
});

describe("first windows of a text", () => {
  test("takeWindows gives whole windows until the count is reached", async () => {
    const result = await takeWindows(stream(100), { length: 16, count: 40, name: "t" });
    expect(result.map((ids) => [ids[0], ids.length])).toEqual([
      [0, 16],
      [16, 16],
      [32, 16],
    ]);
  });

  test("a shorter last window is left out, but a short text is taken as it is", async () => {
    expect((await takeWindows(stream(40), { length: 16, count: 1000, name: "t" })).length).toBe(2);
    expect((await takeWindows(stream(5), { length: 16, count: 1000, name: "t" })).map((ids) => ids.length)).toEqual([
      5,
    ]);
  });

  test("a text of one token is refused", async () => {
    await expect(takeWindows(stream(1), { length: 16, count: 8, name: "t.txt" })).rejects.toThrow(
      "t.txt: the text has under two tokens",
    );
  });
});
