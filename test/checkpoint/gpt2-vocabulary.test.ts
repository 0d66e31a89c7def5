// GPT-2's built-in vocabulary against gpt-tokenizer's r50k_base: the same ids for any text, the same text for any ids.
import fc from "fast-check";
import tokens from "gpt-tokenizer/bpeRanks/r50k_base";
import * as r50k from "gpt-tokenizer/encoding/r50k_base";
import { beforeAll, describe, expect, it, test } from "vitest";
import { loadTokenizer, type Tokenizer } from "../../src/checkpoint/tokenizer.ts";

const END = "<|endoftext|>";
let tokenizer: Tokenizer;
beforeAll(async () => {
  tokenizer = await loadTokenizer(null, { vocab_size: 50_257 } as Parameters<typeof loadTokenizer>[1]);
});

/** Not r50k.decode, which keeps the bytes of an unfinished character for its next call. */
const decode = (ids: readonly number[]) => Buffer.concat(ids.map((id) => Buffer.from(tokens[id] ?? END))).toString();

/** Texts of several scripts and kinds of characters, in runs. */
const RANGES: [number, number][] = [
  [0x00, 0x7f],
  [0x09, 0x0d],
  [0x20, 0x20],
  [0x80, 0xff],
  [0x300, 0x36f], // combining marks
  [0x370, 0x4ff], // Greek, Cyrillic
  [0x590, 0x6ff], // Hebrew, Arabic
  [0x900, 0x97f], // Devanagari
  [0x2000, 0x206f], // spaces and punctuation
  [0x3000, 0x30ff], // kana
  [0x4e00, 0x9fff], // Chinese characters
  [0xac00, 0xd7a3], // Hangul
  [0xd800, 0xdfff], // lone surrogates
  [0xfe00, 0xffff],
  [0x1f300, 0x1faff], // emoji
];
const run = fc
  .constantFrom(...RANGES)
  .chain(([min, max]) => fc.array(fc.integer({ min, max }), { minLength: 1, maxLength: 6 }))
  .map((codes) => String.fromCodePoint(...codes));
/** Without the characters that are white space in one engine and none in the other: JavaScript has U+FEFF, GPT-2 U+0085. */
const text = fc.array(run, { maxLength: 20 }).map((runs) => runs.join("").replaceAll(/[\u0085\ufeff]/g, ""));

describe("encoding with GPT-2's vocabulary", () => {
  it.each([
    ["nothing", ""],
    ["U+FEFF", "\ufeffabc \ufeff x"],
    ["U+0085", "a\u0085b \u0085"],
    ["runs of spaces", `  x   y\t\n\n  z ${" ".repeat(300)}`],
    ["contractions", "I'll we've DON'T 'S it's ''s"],
    ["a flag and a family", "👨‍👩‍👧 🇩🇪"],
    ["names of properties", "constructor __proto__ toString"],
    ["one long word", "a".repeat(500)],
    ["another model's special tokens", "<|im_start|> <|fim_prefix|><|endofprompt|>"],
  ])("encoding gives r50k_base's ids: %s", (_, sample) => {
    expect(tokenizer.encode(sample)).toEqual(r50k.encode(sample));
  });

  test("encoding gives r50k_base's ids for any text", () => {
    fc.assert(
      fc.property(text, (sample) => {
        expect(tokenizer.encode(sample)).toEqual(r50k.encode(sample));
      }),
      { numRuns: 2000 },
    );
  });

  test("the end of a text is one id wherever it stands", () => {
    expect(tokenizer.encode(`${END}a${END} ${END}${END}\nb`)).toEqual([
      50_256, 64, 50_256, 220, 50_256, 50_256, 198, 65,
    ]);
  });
});

describe("decoding with GPT-2's vocabulary", () => {
  test("decoding gives r50k_base's text for any ids, unfinished characters too", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 50_256 })), (ids) => {
        expect(tokenizer.decode(ids)).toBe(decode(ids));
      }),
      { numRuns: 1000 },
    );
  });

  test("padding rows of the vocabulary are shown as the end of a text", () => {
    expect(tokenizer.decode([64, 50_300])).toBe(`a${END}`);
  });
});
