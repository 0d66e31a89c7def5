// What a tokenizer file or a text may not do: ids that are none, patterns without end, words without end.
import { mkdir, writeFile } from "node:fs/promises";
import { describe, expect, it, test } from "vitest";
import { loadTokenizer, readTokenizer } from "../../../src/checkpoint/tokenizer.ts";
import { failureOf } from "../../support/failure.ts";
import { SLOW, slowUnless } from "../../support/slow.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const at = temporaryFolder("encoding-bounds");
let folders = 0;

/** A folder with these JSON files. */
async function folderWith(files: Record<string, unknown>): Promise<string> {
  const folder = at(`${folders++}`);
  await mkdir(folder);
  for (const [name, content] of Object.entries(files))
    await writeFile(`${folder}/${name}`, typeof content === "string" ? content : JSON.stringify(content));
  return folder;
}

const withModel = (model: object, more: object = {}) => folderWith({ "tokenizer.json": { model, ...more } });
const WORDS = { type: "WordLevel", vocab: { "<unk>": 0, a: 1, b: 2 }, unk_token: "<unk>" };
const SPACES = { pre_tokenizer: { type: "WhitespaceSplit" } };

describe("ids in tokenizer files", () => {
  it.each([
    ["null", null],
    ["a string", "3"],
    ["a fraction", 1.5],
    ["a negative number", -1],
    ["2^31", 2 ** 31],
    ["2^53", 2 ** 53],
    ["an object", {}],
  ])("%s is refused as an id, by the file and the token", async (_, id) => {
    const broken = { ...WORDS.vocab, zebra: id };
    const pair = { "vocab.json": broken, "merges.txt": "#version: 0.2\n" };
    const added = [{ id, content: "zebra" }];
    const folders: [string, string][] = [
      [await withModel({ ...WORDS, vocab: broken }), "tokenizer.json"],
      [await withModel({ type: "BPE", vocab: broken, merges: [] }), "tokenizer.json"],
      [await withModel({ type: "WordPiece", vocab: broken, unk_token: "<unk>" }), "tokenizer.json"],
      [await withModel(WORDS, { added_tokens: added }), "tokenizer.json"],
      [await folderWith(pair), "vocab.json"],
      [await folderWith({ ...pair, "vocab.json": { a: 0 }, "added_tokens.json": { zebra: id } }), "added_tokens.json"],
    ];
    for (const [folder, file] of folders) {
      const error = await failureOf(() => readTokenizer(folder));
      expect(error.code).toBe("invalid-file");
      expect(error.message).toMatch(new RegExp(`${file}: the id of token "zebra" is `));
      expect(error.message).not.toContain("\n");
    }
  });

  it("two tokens of one id are refused by both their names", async () => {
    const error = await failureOf(async () =>
      readTokenizer(await withModel({ ...WORDS, vocab: { a: 0, b: 1, c: 1 } })),
    );
    expect(error.message).toMatch(/tokenizer\.json: tokens "b" and "c" have one id, 1$/);
  });

  it.each([
    ["that of another token", 1],
    ["one after a gap", 9],
  ])("an added token whose id is %s is refused", async (_, id) => {
    const folder = await withModel(WORDS, { added_tokens: [{ id, content: "<x>" }] });
    const error = await failureOf(() => readTokenizer(folder));
    expect(error.message).toMatch(new RegExp(`tokenizer\\.json: token "<x>" has id ${id}, expected 3$`));
  });

  it("an added token that would get the id of another one is refused: the vocabulary has a gap", async () => {
    const vocab = { "<unk>": 0, a: 1, b: 3 };
    for (const folder of [
      await withModel({ ...WORDS, vocab }, { added_tokens: [{ id: 3, content: "<x>" }] }),
      await folderWith({ "vocab.json": vocab, "merges.txt": "", "added_tokens.json": { "<x>": 3 } }),
      await folderWith({ "vocab.json": vocab, "merges.txt": "", "special_tokens_map.json": { pad_token: "<x>" } }),
    ]) {
      const error = await failureOf(() => readTokenizer(folder));
      expect(error.code).toBe("invalid-file");
      expect(error.message).toMatch(
        /(tokenizer|vocab|added_tokens)\.json: tokens "b" and "(<x>|<\|endoftext\|>)" have one id, 3$/,
      );
    }
  });

  it.each([
    ["normalizer", {}],
    ["pre_tokenizer", {}],
    ["decoder", {}],
    ["model", { vocab: {} }],
  ])("the type of a %s is named in one line, whatever its characters", async (part, more) => {
    const folder = await withModel(WORDS, { [part]: { type: "a\nb\u001b[2J", ...more } });
    const error = await failureOf(() => readTokenizer(folder));
    expect(error.code).toBe("unsupported");
    expect(error.message).toMatch(/"a\\nb\\u001b\[2J" is not supported$/);
  });

  it.each([
    ["a Unigram token without a score", { type: "Unigram", vocab: [["a", -1], ["b"]], unk_id: 0 }],
    ["a Unigram vocabulary without order", { type: "Unigram", vocab: { a: 0 }, unk_id: 0 }],
    ["an unknown token past the vocabulary", { type: "Unigram", vocab: [["a", -1]], unk_id: 1 }],
    ["merges of tokens that are not there", { type: "BPE", vocab: { a: 0, b: 1 }, merges: ["a b"] }],
    ["merges that are no pairs", { type: "BPE", vocab: { a: 0, b: 1 }, merges: ["a"] }],
    ["no vocabulary", { type: "BPE", merges: [] }],
  ])("%s is refused", async (_, model) => {
    const folder = await withModel(model);
    expect((await failureOf(() => readTokenizer(folder))).code).toBe("invalid-file");
  });
});

describe("words that a tokenizer does not know", () => {
  it.each([
    ["WordLevel", { ...WORDS, unk_token: "[UNK]" }],
    ["WordPiece", { ...WORDS, type: "WordPiece", unk_token: "[UNK]" }],
  ])("%s without an unknown token refuses the word by its name", async (_, model) => {
    const tokenizer = await loadTokenizer(await withModel(model, SPACES), { vocab_size: 3 } as never);
    expect(tokenizer.encode("a b")).toEqual([1, 2]);
    expect(() => tokenizer.encode("a zebra")).toThrow(/tokenizer\.json: knows neither "zebra" nor .* "\[UNK\]"$/);
  });

  test("Unigram without an unknown token refuses the character", async () => {
    const tokenizer = await readTokenizer(await withModel({ type: "Unigram", vocab: [["a", -1]], unk_id: null }));
    expect(tokenizer?.encode("aa")).toEqual([0, 0]);
    expect(() => tokenizer?.encode("az")).toThrow(/knows no "z"/);
  });
});

describe("long texts", () => {
  const vocab = [
    ["<unk>", 0],
    ["▁", -4],
    ["a", -2],
    ["aa", -3],
    ["▁a", -3],
  ];

  test("Unigram encodes a word of 300,000 characters", async () => {
    const tokenizer = await readTokenizer(await withModel({ type: "Unigram", vocab, unk_id: 0 }));
    expect(tokenizer?.encode("a".repeat(300_001))).toHaveLength(150_001);
  });

  test("BPE encodes a word of 300,000 characters, and refuses one of 1.1 million", async () => {
    const tokenizer = await loadTokenizer(null, { vocab_size: 50_257 } as never);
    expect(tokenizer.encode("ab".repeat(150_000))).toHaveLength(150_000);
    const error = await failureOf(async () => tokenizer.encode("a".repeat(1_100_000)));
    expect(error).toMatchObject({
      code: "unsupported",
      message: expect.stringMatching(/^a word of 1100000 characters/),
    });
  });
});

describe("patterns of a tokenizer file", () => {
  const endless = { pattern: { Regex: "(?:a+)+$" }, behavior: "Isolated", invert: false };
  const text = `${"a".repeat(60)}!`;

  describe.each([
    ["a split", { pre_tokenizer: { type: "Split", ...endless } }],
    ["a normalizer", { normalizer: { type: "Replace", pattern: endless.pattern, content: "" } }],
  ])("of %s", (kind, part) =>
    it("that takes for ever ends with an error that names the file", slowUnless(kind === "a split"), async () => {
      const tokenizer = await readTokenizer(await withModel(WORDS, part));
      const started = performance.now();
      const error = await failureOf(async () => tokenizer?.encode(text));
      expect(performance.now() - started).toBeLessThan(10_000);
      expect(error).toMatchObject({
        code: "unsupported",
        message: expect.stringMatching(/tokenizer\.json: its patterns took over \d\.\d+ s for 61 characters$/),
      });
    }),
  );

  test("of a decoder that takes for ever end it with such an error too", SLOW, async () => {
    const decoder = { type: "Replace", pattern: endless.pattern, content: "" };
    const model = { ...WORDS, vocab: { "<unk>": 0, [text]: 1 } };
    const tokenizer = await readTokenizer(await withModel(model, { decoder }));
    expect((await failureOf(async () => tokenizer?.decode([1]))).code).toBe("unsupported");
  });

  it.each([
    ["a text to split at", { pre_tokenizer: { type: "Split", pattern: { String: "x".repeat(70_000) } } }],
    ["an expression to split at", { pre_tokenizer: { type: "Split", pattern: { Regex: "x".repeat(70_000) } } }],
    ["a delimiter", { pre_tokenizer: { type: "CharDelimiterSplit", delimiter: "x".repeat(70_000) } }],
    ["a mark of spaces", { pre_tokenizer: { type: "Metaspace", replacement: "x".repeat(70_000) } }],
    ["a text to replace", { normalizer: { type: "Replace", pattern: { String: "x".repeat(70_000) }, content: "" } }],
  ])("%s of 70,000 characters is refused when the file is read", async (_, part) => {
    const folder = await withModel(WORDS, part);
    const error = await failureOf(() => readTokenizer(folder));
    expect(error.code).toBe("unsupported");
    expect(error.message).toMatch(/tokenizer\.json: the pattern "x+.{0,9}: Regular expression too large$/);
  });

  test("a pattern that is none is refused", async () => {
    const part = { pre_tokenizer: { type: "Split", pattern: { Regex: "(" }, behavior: "Isolated" } };
    const folder = await withModel(WORDS, part);
    expect((await failureOf(() => readTokenizer(folder))).message).toMatch(/tokenizer\.json: the pattern "\("/);
  });
});
