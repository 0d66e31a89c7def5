// Tokenizers of all kinds give the ids of Hugging Face's library, for a whole text and for pieces of any length.
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { cutPieces } from "../../../src/checkpoint/encoding/cuts.ts";
import { checkDefinition } from "../../../src/checkpoint/encoding/definition.ts";
import { Pipeline } from "../../../src/checkpoint/encoding/pipeline.ts";

interface Kind {
  name: string;
  tokenizer: unknown;
  /** A text, its ids, and the text of those ids. */
  rows: [string, number[], string][];
}

/** Written by make-expected-ids.py. */
const KINDS: Kind[] = JSON.parse(readFileSync(new URL("expected-ids.json", import.meta.url), "utf8"));

async function* feed(text: string, length: number): AsyncGenerator<string> {
  for (let at = 0; at < text.length; at += length) yield text.slice(at, at + length);
}

async function encodePieces(
  pipeline: Pipeline,
  text: string,
  length: number,
): Promise<{ ids: number[]; count: number }> {
  const place = { first: true, continued: false };
  const ids: number[] = [];
  let count = 0;
  for await (const piece of cutPieces(feed(text, length), pipeline, length)) {
    count++;
    ids.push(...pipeline.encode(piece, place));
  }
  return { ids, count };
}

describe.each(KINDS)("$name", ({ name, tokenizer, rows }) => {
  const pipeline = new Pipeline(checkDefinition(tokenizer, "tokenizer.json"));

  test.each(rows)("encoding and decoding %j", (text, ids, decoded) => {
    expect(pipeline.encode(text)).toEqual(ids);
    expect(pipeline.decode(ids)).toBe(decoded);
  });

  test("pieces encode like the whole", async () => {
    const part = fc.oneof(
      fc.constantFrom(...rows.map(([text]) => text)),
      fc.constantFrom("the queen", " ", "\r\n", "word", "  ", "\n", "<|sys|>", "[X]", "é", "日本", "'s", "123"),
    );
    const text = fc.array(part, { maxLength: 12 }).map((parts) => parts.join(""));
    await fc.assert(
      fc.asyncProperty(text, fc.integer({ min: 1, max: 40 }), async (sample, length) => {
        expect((await encodePieces(pipeline, sample, length)).ids).toEqual(pipeline.encode(sample));
      }),
      { numRuns: 150 },
    );
  });

  test("a text is cut whatever its line ends", async () => {
    // A pattern that is not known, words joined at spaces, and tokens over each of these spaces leave no place to cut.
    const isWhole = ["an unknown pattern", "WordLevel split at spaces", "Unigram over spaces"].includes(name);
    for (const end of ["\n", "\r\n", "  \n", " "]) {
      const text = `the queen likes a small town${end}`.repeat(40);
      const { ids, count } = await encodePieces(pipeline, text, 50);
      expect(ids).toEqual(pipeline.encode(text));
      if (isWhole) expect(count).toBe(1);
      else expect(count).toBeGreaterThan(10);
    }
  });
});
