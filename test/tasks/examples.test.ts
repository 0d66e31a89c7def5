// Examples to ids and batches: truncation of pairs, padding, and an order that the seed alone decides.
import { describe, expect, it } from "vitest";
import type { Tokenizer } from "../../src/checkpoint/tokenizer.ts";
import { batchExamples, encodeExamples, padLength } from "../../src/tasks/examples.ts";

/** One id a character. */
const tokenizer = { encode: (text: string) => [...text].map((letter) => letter.charCodeAt(0)) } as unknown as Tokenizer;
const encode = (texts: string[], length: number) =>
  String.fromCharCode(...(encodeExamples([{ texts, label: 0 }], tokenizer, length)[0]?.ids ?? []));

describe("encoded texts", () => {
  it("a pair of texts is joined by a newline and loses the end of the longer one first", () => {
    expect(encode(["abc"], 10)).toBe("abc");
    expect(encode(["abc", "de"], 10)).toBe("abc\nde");
    expect(encode(["abcdefgh", "xy"], 8)).toBe("abcde\nxy");
    expect(encode(["ab", "uvwxyz"], 6)).toBe("ab\nuvw");
    expect(encode(["abcdef", "uvwxyz"], 6)).toBe("abc\nuv");
    expect(encode(["abcdef"], 4)).toBe("abcd");
  });

  it("an empty text still has a token", () => {
    expect(encode([""], 4)).toBe("\n");
    expect(encode(["", ""], 4)).toBe("\n");
  });
});

describe("batches of examples", () => {
  const examples = Array.from({ length: 103 }, (_, i) => ({
    ids: Array.from({ length: 1 + ((i * 37) % 29) }, (_, k) => k),
    label: i,
  }));
  const all = (options: { shuffle?: { seed: number; epoch: number } }) =>
    batchExamples(examples, { batchSize: 8, length: 29, ...options });

  it("the batches hold every example once, each with its label, ids and last token", () => {
    for (const options of [{}, { shuffle: { seed: 1, epoch: 0 } }]) {
      const batches = all(options);
      expect(batches).toHaveLength(13);
      expect(batches.flatMap(({ indices }) => [...indices]).sort((a, b) => a - b)).toEqual([...examples.keys()]);
      for (const { ids, last, labels, length, count, indices } of batches)
        for (let row = 0; row < count; row++) {
          const example = examples[indices[row] as number] as (typeof examples)[number];
          expect(labels[row]).toBe(example.label);
          const end = last[row] as number;
          expect([...ids.subarray(row * length, end + 1)]).toEqual(example.ids);
          expect(ids.subarray(end + 1, (row + 1) * length).every((id) => id === 0)).toBe(true);
        }
    }
  });

  it("the batches are the same for the same seed and epoch, and differ for others", () => {
    const order = (seed: number, epoch: number) =>
      all({ shuffle: { seed, epoch } }).flatMap(({ indices }) => [...indices]);
    expect(order(1, 0)).toEqual(order(1, 0));
    expect(order(1, 1)).not.toEqual(order(1, 0));
    expect(order(2, 0)).not.toEqual(order(1, 0));
  });

  it("the batches have few different lengths, never beyond the longest text", () => {
    expect([1, 8, 9, 13, 17, 25, 33, 65, 97].map((tokens) => padLength(tokens, 128))).toEqual([
      8, 8, 12, 16, 24, 32, 48, 96, 128,
    ]);
    expect(padLength(29, 29)).toBe(29);
    expect(padLength(3, 5)).toBe(5);
  });
});
