// GPT-2's words by a table against its regular expression, and byte-level tokenizers of all sorts against both that
// expression and Hugging Face's library in JavaScript.
import { Tokenizer } from "@huggingface/tokenizers";
import fc from "fast-check";
import { describe, expect, it, test } from "vitest";
import { BYTE_ALPHABET } from "../../../src/checkpoint/encoding/bytes.ts";
import { checkDefinition } from "../../../src/checkpoint/encoding/definition.ts";
import { findWordEnd } from "../../../src/checkpoint/encoding/gpt2-words.ts";
import { GPT2_WORDS } from "../../../src/checkpoint/encoding/patterns.ts";
import { Pipeline } from "../../../src/checkpoint/encoding/pipeline.ts";

function splitWords(text: string): string[] {
  const units = Uint16Array.from({ length: text.length }, (_, i) => text.charCodeAt(i));
  const words: string[] = [];
  for (let start = 0, end = 0; start < units.length; start = end) {
    end = findWordEnd(units, start, units.length);
    words.push(text.slice(start, end));
  }
  return words;
}

const PARTS = [
  ...["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'", "''", "'l", "'r", "'v", "\"'s", " 's", "a's"],
  ...[" ", "  ", "   \n", "\t", "\n\n", "\r\n", "\u0085", "\u00a0", "\u2003", "\u3000", "\ufeff", "\u200b"],
  ...["the", " queen", "Ünïcode", "日本語", " русский", "العربية", "한국어", "नमस्ते", "e\u0301", "ß", "ǅ", "ª"],
  ...[
    "1",
    " 234",
    "٣",
    "½",
    "Ⅷ",
    "²",
    "𝟘",
    "𐄇",
    "𐐷",
    "𠀀",
    " 𠮷",
    "👨‍👩‍👧",
    "🇩🇪",
    "!",
    "…",
    " —",
    "_",
    "$",
    "\u0000",
    "\u007f",
  ],
  ...["<|end|>", " <|end|> ", "[X]", "a[X]b", "<|", "\ufffd"],
];
/** Any characters, among them lone surrogates, between parts that the rules speak of. */
const anyText = fc
  .array(fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...PARTS) }, fc.string({ unit: "binary", maxLength: 4 })), {
    maxLength: 24,
  })
  .map((parts) => parts.join(""));
const withoutSurrogates = anyText.map((text) => text.replace(/\p{Surrogate}/gu, "\ufffd"));

describe("the words of GPT-2", () => {
  test("the table ends words where the regular expression does", () => {
    fc.assert(
      fc.property(withoutSurrogates, (text) => {
        expect(splitWords(text)).toEqual(text.match(GPT2_WORDS) ?? []);
      }),
      { numRuns: 5000 },
    );
  });

  test("the table knows the kind of every character", () => {
    for (let code = 0; code <= 0x10ffff; code += code < 0x3000 ? 1 : 7) {
      if (code >= 0xd800 && code < 0xe000) continue;
      // After a letter, a digit, a mark and a space: each kind ends other words.
      const text = ["a", "1", "!", " "].map((before) => before + String.fromCodePoint(code)).join("\n");
      const words = splitWords(text);
      if (words.join("|") !== text.match(GPT2_WORDS)?.join("|")) expect([code, words]).toEqual([code, null]);
    }
  });
});

/** A byte-level BPE: bytes that it lacks, merges of tokens that are there, added tokens, and what stands before a text. */
interface Kind {
  missing: number[];
  merges: [number, number][];
  unknown: boolean;
  fuse: boolean;
  ignoreMerges: boolean;
  prefix: boolean;
  added: { lstrip: boolean; rstrip: boolean; single_word: boolean; normalized: boolean };
}

const kind: fc.Arbitrary<Kind> = fc.record({
  missing: fc.array(fc.integer({ min: 0, max: 255 }), { maxLength: 40 }),
  merges: fc.array(fc.tuple(fc.nat(400), fc.nat(400)), { maxLength: 150 }),
  unknown: fc.boolean(),
  fuse: fc.boolean(),
  ignoreMerges: fc.boolean(),
  prefix: fc.boolean(),
  added: fc.record({
    ...{ lstrip: fc.boolean(), rstrip: fc.boolean(), single_word: fc.boolean(), normalized: fc.boolean() },
  }),
});

function makeTokenizerJson(one: Kind) {
  // Frequent letters first, so that random merges are met.
  const bytes = [..."etaoin shrdlu'".replace(" ", "Ġ"), ...BYTE_ALPHABET];
  const tokens = [...new Set(bytes)].filter((_, i) => i < 14 || !one.missing.includes(i));
  if (one.unknown) tokens.push("<unk>");
  const merges: [string, string][] = [];
  for (const [a, b] of one.merges) {
    const pair: [string, string] = [
      tokens[a % Math.min(tokens.length, 30 + merges.length)] as string,
      tokens[b % 30] as string,
    ];
    if (pair.includes("<unk>") || tokens.includes(pair.join(""))) continue;
    merges.push(pair);
    tokens.splice(14, 0, pair.join(""));
  }
  const added = ["<|end|>", "[X]"].map((content, i) => ({
    ...{
      id: tokens.length + i,
      content,
      special: i === 0,
      ...one.added,
      normalized: i === 0 ? false : one.added.normalized,
    },
  }));
  return {
    version: "1.0",
    added_tokens: added,
    normalizer: null as unknown,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: one.prefix, trim_offsets: true, use_regex: true } as unknown,
    post_processor: null,
    decoder: { type: "ByteLevel" },
    model: {
      ...{
        type: "BPE",
        dropout: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        byte_fallback: false,
      },
      ...{ unk_token: one.unknown ? "<unk>" : null, fuse_unk: one.fuse, ignore_merges: one.ignoreMerges },
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    },
  };
}

const makePipeline = (json: unknown) => new Pipeline(checkDefinition(json, "tokenizer.json"));

describe("byte-level tokenizers", () => {
  test("they give the ids of the same tokenizer by its regular expression, whatever it has", () => {
    fc.assert(
      fc.property(kind, fc.array(anyText, { minLength: 1, maxLength: 4 }), (one, texts) => {
        const json = makeTokenizerJson(one);
        // Inside a sequence the words are found by the expression.
        const plain = { ...json, pre_tokenizer: { type: "Sequence", pretokenizers: [json.pre_tokenizer] } };
        const [fast, slow] = [makePipeline(json), makePipeline(plain)];
        for (const text of [...texts, ...texts]) expect(fast.encode(text)).toEqual(slow.encode(text));
      }),
      { numRuns: 400 },
    );
  });

  test("they give the ids of Hugging Face's library", () => {
    // The library takes other characters for white space, and has no words beside single_word tokens or lone surrogates.
    const text = withoutSurrogates.map((sample) => sample.replaceAll(/[\u0085\ufeff\ufffd]/g, ""));
    const flags = { lstrip: false, rstrip: false, single_word: false, normalized: false };
    fc.assert(
      fc.property(kind, text, (one, sample) => {
        const json = makeTokenizerJson({ ...one, missing: [], unknown: false, added: flags });
        const library = new Tokenizer(json as never, {} as never);
        expect(makePipeline(json).encode(sample)).toEqual(library.encode(sample, { add_special_tokens: false }).ids);
      }),
      { numRuns: 400 },
    );
  });

  it.each([
    ["a normalizer", { normalizer: { type: "Lowercase" } }, "The QUEEN'S 12"],
    [
      "another pattern",
      {
        pre_tokenizer: {
          type: "Sequence",
          pretokenizers: [{ type: "Digits" }, { type: "ByteLevel", add_prefix_space: false }],
        },
      },
      "a12 b",
    ],
  ])("with %s they still give the library's ids", (_, part, text) => {
    const merges: [number, number][] = [
      [1, 12],
      [0, 0],
      [2, 5],
    ];
    const none = { lstrip: false, rstrip: false, single_word: false, normalized: false };
    const one = { missing: [], merges, unknown: false, fuse: false, ignoreMerges: false, prefix: false, added: none };
    const json = { ...makeTokenizerJson(one), ...part };
    const library = new Tokenizer(json as never, {} as never);
    expect(makePipeline(json).encode(text)).toEqual(library.encode(text, { add_special_tokens: false }).ids);
  });

  test("words are still known when more came than are kept", () => {
    const flags = { lstrip: false, rstrip: false, single_word: false, normalized: false };
    const one = {
      missing: [],
      merges: [],
      unknown: false,
      fuse: false,
      ignoreMerges: false,
      prefix: false,
      added: flags,
    };
    const json = makeTokenizerJson(one);
    const pipeline = makePipeline(json);
    const { vocab } = json.model;
    const text = Array.from(
      { length: 300_000 },
      (_, i) => ` ${i.toString(26).replaceAll(/[0-9]/g, (d) => "qwertyuiop"[Number(d)] as string)}`,
    ).join("");
    const expected = Array.from(text, (letter) => vocab[letter === " " ? "Ġ" : letter]);
    expect(pipeline.encode(text)).toEqual(expected);
    expect(pipeline.encode(text.slice(0, 1000))).toEqual(expected.slice(0, 1000));
  });
});
