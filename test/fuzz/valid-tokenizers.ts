// Small valid tokenizers of every kind, which the fuzzers spoil: each step of a tokenizer is in one of them.
import { BYTE_ALPHABET } from "../../src/checkpoint/encoding/bytes.ts";

const LETTERS = [..."abcdefghijklmnopqrstuvwxyzABCNOT .,!1234567890"];
const toIds = (tokens: readonly string[]) => Object.fromEntries(tokens.map((token, id) => [token, id]));

const added = (id: number, content: string, flags: object = {}) => ({
  ...{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true },
  ...flags,
});

const PIECES = ["[UNK]", "on", "##ce", "up", "##on", "a", "##a", "time", ...LETTERS.filter((one) => one !== "a")];
const WORDS = ["<unk>", "Once", "upon", "a", "time", ","];
const UNIGRAM = ["<unk>", "▁", "▁On", "ce", "▁up", "on", "▁a", ...LETTERS.slice(1)];
const BYTES = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, "0")}>`);

/** A table that replaces "A" by "a": a trie of one character, and its text. */
function encodeCharsmap(): Uint8Array {
  const units = new Uint32Array(256);
  const [root, leaf] = [1, 2];
  units[0] = root << 10;
  units[root ^ 0x41] = 0x41 | 0x100 | (((root ^ 0x41 ^ leaf) as number) << 10);
  const trie = Buffer.from(units.buffer);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(trie.length);
  return Buffer.concat([length, trie, Buffer.from("a\0")]);
}

export const CHARSMAP = encodeCharsmap();
const charsmap = Buffer.from(CHARSMAP).toString("base64");

export const TOKENIZERS: readonly object[] = [
  {
    added_tokens: [added(256, "<|endoftext|>"), added(257, "<x>", { normalized: true, lstrip: true })],
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, use_regex: true },
    decoder: { type: "ByteLevel" },
    model: { type: "BPE", vocab: toIds([...BYTE_ALPHABET, "<|endoftext|>", "<x>", "on", "Ġup"]), merges: ["o n"] },
  },
  {
    added_tokens: [added(0, "<unk>"), added(1, "mask", { single_word: true, rstrip: true })],
    normalizer: {
      type: "Sequence",
      normalizers: [
        { type: "Prepend", prepend: "▁" },
        { type: "Replace", pattern: { String: " " }, content: "▁" },
        { type: "Replace", pattern: { Regex: " {2,}" }, content: " " },
      ],
    },
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: "▁" }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        { type: "Strip", content: " ", start: 1, stop: 0 },
      ],
    },
    model: {
      ...{ type: "BPE", unk_token: "<unk>", fuse_unk: true, byte_fallback: true },
      vocab: toIds(["<unk>", "mask", "▁", ...BYTES, ...LETTERS, "on", "▁up", "up"]),
      merges: [["o", "n"]],
    },
  },
  {
    added_tokens: [added(0, "[UNK]"), added(PIECES.length, "[MASK]", { lstrip: true })],
    normalizer: { type: "BertNormalizer", clean_text: true, handle_chinese_chars: true, lowercase: true },
    pre_tokenizer: { type: "BertPreTokenizer" },
    decoder: { type: "WordPiece", prefix: "##", cleanup: true },
    model: { type: "WordPiece", unk_token: "[UNK]", max_input_chars_per_word: 20, vocab: toIds(PIECES) },
  },
  {
    added_tokens: [added(0, "<unk>")],
    normalizer: { type: "Sequence", normalizers: [{ type: "NFKC" }, { type: "Strip" }, { type: "StripAccents" }] },
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        { type: "WhitespaceSplit" },
        { type: "Punctuation", behavior: "Isolated" },
        { type: "Digits", individual_digits: true },
        { type: "Split", pattern: { Regex: "\\s+" }, behavior: "Removed", invert: false },
        { type: "CharDelimiterSplit", delimiter: "-" },
      ],
    },
    model: { type: "WordLevel", unk_token: "<unk>", vocab: toIds(WORDS) },
  },
  {
    added_tokens: [added(0, "<unk>")],
    normalizer: { type: "Precompiled", precompiled_charsmap: charsmap },
    pre_tokenizer: { type: "Metaspace", replacement: "▁", prepend_scheme: "always", split: true },
    decoder: { type: "Metaspace", replacement: "▁", prepend_scheme: "always" },
    model: { type: "Unigram", unk_id: 0, byte_fallback: false, vocab: UNIGRAM.map((token, i) => [token, -i / 4]) },
  },
  {
    added_tokens: [],
    normalizer: { type: "Lowercase" },
    pre_tokenizer: {
      type: "Split",
      pattern: { Regex: "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+" },
      behavior: "MergedWithNext",
    },
    decoder: { type: "BPEDecoder", suffix: "</w>" },
    model: {
      ...{ type: "BPE", unk_token: "a", end_of_word_suffix: "</w>", continuing_subword_prefix: "" },
      vocab: toIds([...LETTERS, "n</w>", "on</w>"]),
      merges: ["o n</w>"],
    },
  },
];
