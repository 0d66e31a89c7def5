// Cutting the vocabulary to the tokens of a text: the rows, every file that names ids, and texts of all kinds afterwards.
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { Checkpoint } from "../../../src/checkpoint/checkpoint.ts";
import { openCheckpoint } from "../../../src/checkpoint/checkpoint.ts";
import { type KeptIds, readVocabularyCut } from "../../../src/checkpoint/kept-ids.ts";
import { loadTokenizer, type Tokenizer } from "../../../src/checkpoint/tokenizer.ts";
import type { ConvertOptions } from "../../../src/convert/convert-options.ts";
import { fileExists } from "../../../src/io/exists.ts";
import { bytesOf, converted, MODEL, opened, SHARED, TEXT } from "../../support/fixture.ts";
import { type TinyOptions, tinyHfConfig, writeCheckpoint } from "../../support/make-checkpoint.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("vocabulary-cut");
const SENTENCE = "The old anchor of David is heavy. Who has the ladder? It is Anna in the garden.\n";
const OTHERS = [
  "蒙古帝国的建立者。\n中文測試",
  "👩‍👩‍👧‍👦 🇩🇪 🤷🏽‍♀️!",
  "for (let i = 0; i < n; ++i) {\n\treturn a[i] ?? `null`; // é\n}\r\n",
  "Über Äpfel, Öl und Straßen: „Grüße“ – 25 €",
  "\u0000\u0001 \u200b𝔘𝔫𝔦 العربية हिन्दी   <|endoftext|> end",
];

const write = (name: string, text: string) => {
  writeFileSync(path(name), text);
  return path(name);
};
const readJson = (...parts: string[]) => JSON.parse(readFileSync(join(...parts), "utf8"));
const put = (folder: string, name: string, value: unknown) =>
  writeFileSync(join(folder, name), typeof value === "string" ? value : JSON.stringify(value));

const joinMerges = (merges: readonly string[][]) => merges.map((pair) => pair.join(" ")).join("\n");

interface CutOptions {
  from?: string;
  text?: string;
  size?: number | undefined;
  variant?: ConvertOptions["variant"];
}

/** Cuts the vocabulary of a model and nothing else, unless a variant is given. Gives the folder. */
async function cut(name: string, { from = MODEL, text = SENTENCE, size, variant = "dense" }: CutOptions = {}) {
  const vocabulary = { text: [write(`${name}.txt`, text)] as [string], size };
  const output = path(name);
  await converted({ output, variant, vocabulary }, from);
  return output;
}

const tokenizerOf = ({ folder, config }: Checkpoint) => loadTokenizer(folder, config);
const keptOf = (model: Checkpoint) => (readVocabularyCut(model.record, "x") as { kept: KeptIds }).kept;

/** Expects the same tokens for a text of kept tokens, and the text itself back from both in any case. */
function expectSameTexts(kept: KeptIds, before: Tokenizer, after: Tokenizer, texts: readonly string[]): number {
  let same = 0;
  for (const text of texts) {
    const [old, now] = [before.encode(text), after.encode(text)];
    expect(after.decode(now)).toBe(text);
    if (!old.every((id) => kept.find(id) !== undefined)) continue;
    expect(now).toEqual(old.map((id) => kept.find(id)));
    same++;
  }
  return same;
}

describe("a model cut to the tokens of a text", () => {
  it.each([undefined, 300, 0.75])("has their rows, and encodes any text (size %s)", async (size) => {
    const folder = await cut(`whole-${size}`, { size });
    await opened(MODEL, (source) =>
      opened(folder, async (model) => {
        const kept = keptOf(model);
        const [before, after] = [await tokenizerOf(source), await tokenizerOf(model)];
        expect(model.config.vocab_size).toBe(kept.size);
        expect(after.size).toBe(kept.size);
        expect(kept.size).toBeLessThanOrEqual(size === 0.75 ? 288 : (size ?? 383));
        const rows = await source.readF32("wte.weight");
        const width = source.config.n_embd;
        const expected = kept.ids.flatMap((id) => [...rows.subarray(id * width, (id + 1) * width)]);
        expect([...(await model.readF32("wte.weight"))]).toEqual(expected);
        for (const name of [...model.tensors.keys()].filter((each) => each !== "wte.weight"))
          expect((await bytesOf(model, name)).equals(await bytesOf(source, name)), name).toBe(true);
        const words = readFileSync(TEXT, "utf8").split(/(?<=[.?]) /);
        expect(expectSameTexts(kept, before, after, [SENTENCE, ...OTHERS, ...words])).toBeGreaterThan(0);
        if (size === undefined)
          expect(after.encode(SENTENCE)).toEqual(before.encode(SENTENCE).map((id) => kept.find(id)));
      }),
    );
  });

  it("keeps merges whose parts and result stay, in their order, and reaches every token by them", async () => {
    const folder = await cut("merges", { size: 290 });
    const { model: before } = readJson(MODEL, "tokenizer.json");
    const { model: after } = readJson(folder, "tokenizer.json");
    const text = (merge: string | string[]) => (Array.isArray(merge) ? merge : merge.split(" "));
    const stays = (merge: string | string[]) =>
      [...text(merge), text(merge).join("")].every((token) => Object.hasOwn(after.vocab, token));
    expect(after.merges).toEqual(before.merges.filter(stays));
    const made = new Set(after.merges.map((merge: string) => text(merge).join("")));
    const unreachable = Object.keys(after.vocab).filter((token) => Array.from(token).length > 1 && !made.has(token));
    expect(unreachable).toEqual(["<|endoftext|>"]);
    expect(Object.keys(after.vocab)).toHaveLength(290);
  });

  it("is recorded in nfc.json, beside the tie that goes before it", async () => {
    const folder = await cut("recorded", { variant: "symmetric" });
    const record = readJson(folder, "nfc.json");
    expect(record.tie.strategy).toBe("mean");
    const size = readJson(folder, "config.json").vocab_size;
    const text = { file: path("recorded.txt"), sha256: expect.stringMatching(/^[0-9a-f]{64}$/) };
    expect(record.cuts).toEqual([
      { axis: "vocabulary", from: 384, to: size, text, kept: expect.stringMatching(/^0-\d+(,\d+(-\d+)?)*$/) },
    ]);
  });

  it("has its text in pieces of a stream: a matrix of many chunks in F16, and a head of its own", async () => {
    const options: TinyOptions = { vocab: 384, width: 512, heads: 2, layers: 1, head: "own", dtype: "F16" };
    const from = await writeCheckpoint(path("wide"), options);
    cpSync(join(MODEL, "tokenizer.json"), join(from, "tokenizer.json"));
    const folder = await cut("wide-cut", { from });
    await opened(from, (source) =>
      opened(folder, async (model) => {
        for (const name of ["wte.weight", "lm_head.weight"]) {
          const rows = await bytesOf(source, name);
          const expected = Buffer.concat(keptOf(model).ids.map((id) => rows.subarray(id * 1024, (id + 1) * 1024)));
          expect((await bytesOf(model, name)).equals(expected), name).toBe(true);
        }
      }),
    );
  });
});

/** A model with the fixture's vocabulary shifted: added tokens at the end, and ids named wherever they can be. */
async function writeNaming(name: string): Promise<string> {
  const json = readJson(MODEL, "tokenizer.json");
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  const added = ["<pad>", "<s>"].map((content, i) => ({ id: 384 + i, content, ...flags }));
  const folder = await writeCheckpoint(path(name), { vocab: 390 });
  const template = {
    type: "TemplateProcessing",
    special_tokens: { "<s>": { id: "<s>", ids: [385], tokens: ["<s>"] } },
  };
  put(folder, "tokenizer.json", {
    ...json,
    added_tokens: [...json.added_tokens, ...added],
    padding: { pad_id: 384, pad_token: "<pad>" },
    post_processor: { type: "Sequence", processors: [template, { type: "BertProcessing", sep: ["<pad>", 384] }] },
  });
  put(folder, "added_tokens.json", { "<pad>": 384, "<s>": 385 });
  const decoder = { "0": { content: "<|endoftext|>", ...flags }, "384": { content: "<pad>", ...flags } };
  put(folder, "tokenizer_config.json", { added_tokens_decoder: decoder, pad_token: "<pad>", bos_token: "<s>" });
  put(folder, "special_tokens_map.json", { pad_token: "<pad>", bos_token: "<s>" });
  put(folder, "vocab.json", json.model.vocab);
  put(folder, "merges.txt", `#version: 0.2\n${joinMerges(json.model.merges)}\n`);
  put(folder, "config.json", {
    ...tinyHfConfig({ vocab: 390 }),
    bos_token_id: 385,
    eos_token_id: [0, 385],
    pad_token_id: -1,
    task_specific_params: { chat: { decoder_start_token_id: 387 } },
  });
  put(folder, "generation_config.json", {
    eos_token_id: 0,
    pad_token_id: 384,
    suppress_tokens: [383, 380],
    bad_words_ids: [[382, 381]],
    forced_decoder_ids: [[1, 379]],
    sequence_bias: [[[378], 386]],
    max_length: 388,
  });
  return folder;
}

describe("the files of a cut vocabulary", () => {
  it("name every id anew, keep whatever a configuration names, and leave numbers that are no ids", async () => {
    const folder = await cut("naming-cut", { from: await writeNaming("naming") });
    await opened(folder, async (model) => {
      const kept = keptOf(model);
      const at = (id: number) => kept.find(id) as number;
      for (const id of [0, 378, 379, 380, 381, 382, 383, 384, 385, 387]) expect(at(id)).toBeDefined();
      expect([386, 388, 389].map((id) => kept.find(id))).toEqual([undefined, undefined, undefined]);
      expect(model.config).toMatchObject({ vocab_size: kept.size, bos_token_id: at(385), eos_token_id: 0 });
      expect(readJson(folder, "config.json")).toMatchObject({
        eos_token_id: [0, at(385)],
        pad_token_id: -1,
        task_specific_params: { chat: { decoder_start_token_id: at(387) } },
      });
      expect(readJson(folder, "generation_config.json")).toEqual({
        eos_token_id: 0,
        pad_token_id: at(384),
        suppress_tokens: [at(383), at(380)],
        bad_words_ids: [[at(382), at(381)]],
        forced_decoder_ids: [[1, at(379)]],
        sequence_bias: [[[at(378)], 386]],
        max_length: 388,
      });
      const json = readJson(folder, "tokenizer.json");
      expect(json.added_tokens.map(({ id }: { id: number }) => id)).toEqual([0, at(384), at(385)]);
      expect(json.padding.pad_id).toBe(at(384));
      const [template, bert] = json.post_processor.processors;
      expect([template.special_tokens["<s>"].ids, bert.sep]).toEqual([[at(385)], ["<pad>", at(384)]]);
      expect(readJson(folder, "added_tokens.json")).toEqual({ "<pad>": at(384), "<s>": at(385) });
      expect(Object.keys(readJson(folder, "tokenizer_config.json").added_tokens_decoder)).toEqual(["0", `${at(384)}`]);
      expect(readJson(folder, "vocab.json")).toEqual(json.model.vocab);
      expect(readFileSync(join(folder, "merges.txt"), "utf8").trim().split("\n").slice(1)).toEqual(
        joinMerges(json.model.merges).split("\n"),
      );
      const tokenizer = await tokenizerOf(model);
      expect(tokenizer.encode("<s>the<pad>")).toEqual([at(385), ...tokenizer.encode("the"), at(384)]);
    });
  });

  it("of vocab.json and merges.txt alone are cut, with a tokenizer.json beside them", async () => {
    const from = await writeCheckpoint(path("older"), { vocab: 384 });
    const { model } = readJson(MODEL, "tokenizer.json");
    put(from, "vocab.json", model.vocab);
    put(from, "merges.txt", joinMerges(model.merges));
    const folder = await cut("older-cut", { from });
    const whole = await opened(folder, async (cutModel) =>
      (await tokenizerOf(cutModel)).encode(SENTENCE + OTHERS.join()),
    );
    rmSync(join(folder, "tokenizer.json"));
    const pair = await opened(folder, async (cutModel) =>
      (await tokenizerOf(cutModel)).encode(SENTENCE + OTHERS.join()),
    );
    expect(pair).toEqual(whole);
  });

  it("of GPT-2's built-in vocabulary are written", async () => {
    const folder = await cut("built-in-cut", { from: await writeCheckpoint(path("built-in"), { vocab: 50_304 }) });
    await opened(folder, async (model) => {
      const tokenizer = await tokenizerOf(model);
      expect(model.config.vocab_size).toBe(tokenizer.size);
      expect(tokenizer.size).toBeLessThan(400);
      for (const text of [SENTENCE, ...OTHERS]) expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
      expect(tokenizer.encode("<|endoftext|>")).toEqual([tokenizer.size - 1]);
    });
  });

  it("follow --trim-vocab, whose rows are those that the record counts from", async () => {
    const from = await writeCheckpoint(path("padded"), { vocab: 400 });
    cpSync(join(MODEL, "tokenizer.json"), join(from, "tokenizer.json"));
    const vocabulary = { text: [write("padded.txt", SENTENCE)] as [string] };
    const { convert } = await import("../../../src/convert/convert.ts");
    const source = await openCheckpoint(from, { trimVocab: true });
    await convert(source, { output: path("padded-cut"), variant: "dense", strategy: "mean", vocabulary });
    await source.close();
    await opened(path("padded-cut"), (model) => {
      expect(readVocabularyCut(model.record, "x")?.from).toBe(384);
      expect(model.config.vocab_size).toBe(keptOf(model).size);
    });
  });

  it("leave out what holds the old vocabulary in a form that is not cut, with a note", async () => {
    const from = path("foreign");
    cpSync(MODEL, from, { recursive: true });
    put(from, "spiece.model", "x");
    await cut("foreign-cut", { from });
    expect(fileExists(path("foreign-cut/spiece.model"))).toBe(false);
    expect(readJson(path("foreign-cut"), "nfc.json").notes).toContainEqual(
      expect.stringMatching(/spiece\.model: not copied: it holds the vocabulary before the cut/),
    );
  });
});

/** Tokenizers of the other kinds, over the letters and some longer pieces. */
const LETTERS = [..."abcdefghij"];
const OTHER_MODELS: Record<string, { tokens: string[]; json: (tokens: string[]) => object; tail: string }> = {
  Unigram: {
    tokens: ["<unk>", "▁", ...LETTERS, "▁bad", "ad", "cab", "▁cab", "bag", "▁high"],
    json: (tokens) => ({
      pre_tokenizer: { type: "Metaspace", replacement: "▁", prepend_scheme: "always" },
      decoder: { type: "Metaspace", replacement: "▁", prepend_scheme: "always" },
      model: {
        type: "Unigram",
        unk_id: 0,
        vocab: tokens.map((token, i) => [token, token === "high" ? -99 : -1 - i / 9]),
      },
    }),
    tail: "▁high",
  },
  WordPiece: {
    tokens: ["[UNK]", ...LETTERS, ...LETTERS.map((letter) => `##${letter}`), "bad", "cab", "##bag", "high"],
    json: (tokens) => ({
      pre_tokenizer: { type: "WhitespaceSplit" },
      decoder: { type: "WordPiece", prefix: "##", cleanup: false },
      model: {
        type: "WordPiece",
        unk_token: "[UNK]",
        vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      },
    }),
    tail: "high",
  },
};

async function writeOther(kind: string): Promise<string> {
  const { tokens, json } = OTHER_MODELS[kind] as (typeof OTHER_MODELS)[string];
  const folder = await writeCheckpoint(path(kind), { vocab: tokens.length });
  put(folder, "tokenizer.json", { added_tokens: [], normalizer: null, ...json(tokens) });
  return folder;
}

describe.each(Object.keys(OTHER_MODELS))("a tokenizer of the kind %s", (kind) => {
  it("keeps the tokens of the text, single characters and what is unknown", async () => {
    const from = await writeOther(kind);
    const folder = await cut(`${kind}-cut`, { from, text: "bad cab" });
    await opened(from, (source) =>
      opened(folder, async (model) => {
        const kept = keptOf(model);
        const [before, after] = [await tokenizerOf(source), await tokenizerOf(model)];
        const { tokens, tail } = OTHER_MODELS[kind] as (typeof OTHER_MODELS)[string];
        expect(after.encode("bad cab")).toEqual(before.encode("bad cab").map((id) => kept.find(id)));
        expect(tokens.filter((_, id) => kept.find(id) === undefined)).toContain(tail === "high" ? "##bag" : "bag");
        for (const word of ["high", "jade bagcab", "a"])
          expect(after.decode(after.encode(word))).toBe(before.decode(before.encode(word)));
        expect(after.encode("z").map((id) => kept.ids[id])).toEqual(before.encode("z"));
      }),
    );
  });
});

describe("what cannot be cut", () => {
  const refuse = (name: string, options: CutOptions) => expect(cut(name, options)).rejects;

  it("a size below what must stay", async () => {
    await refuse("small", { size: 256 }).toThrow(
      /tiny-gpt2: cannot keep only 256 tokens: 257 must stay, those of one byte or character and the special ones/,
    );
    await refuse("share", { size: 0.1 }).toThrow("cannot keep only 38 tokens: 257 must stay");
    expect(fileExists(path("small"))).toBe(false);
  });

  it("a special token that the model has no row for", async () => {
    const from = path("no-row");
    cpSync(MODEL, from, { recursive: true });
    put(from, "added_tokens.json", { "<pad>": 384 });
    await refuse("no-row-cut", { from }).toThrow(/the token "<pad>" has id 384, and \S+ only 384 tokens/);
  });

  it("a tokenizer of whole words, one that nfc does not read, and none", async () => {
    const words = await writeCheckpoint(path("words"), { vocab: 3 });
    const model = { type: "WordLevel", unk_token: "<unk>", vocab: { "<unk>": 0, a: 1, b: 2 } };
    put(words, "tokenizer.json", { added_tokens: [], model });
    await refuse("words-cut", { from: words }).toThrow(/tokenizer\.json: knows whole words only/);
    const foreign = await writeCheckpoint(path("sentencepiece"), {});
    put(foreign, "spiece.model", "x");
    await refuse("sp-cut", { from: foreign }).toThrow(/its tokenizer is spiece\.model, and nfc cuts a tokenizer\.json/);
    await refuse("none-cut", { from: await writeCheckpoint(path("none"), {}) }).toThrow(/it has no tokenizer/);
  });

  it("a text of token ids, and one that is not there", async () => {
    mkdirSync(path("ids"));
    writeFileSync(path("ids/text.bin"), Buffer.alloc(64));
    const vocabulary = { text: [path("ids/text.bin")] as [string] };
    const output = path("ids-cut");
    await expect(converted({ output, variant: "dense", vocabulary })).rejects.toThrow(/text\.bin: holds token ids/);
    const missing = { text: [path("ids/none.txt")] as [string] };
    await expect(converted({ output, variant: "dense", vocabulary: missing })).rejects.toThrow(
      /none\.txt: no such file/,
    );
  });

  it("nothing: a dense model with all its tokens is its source", async () => {
    await expect(converted({ output: path("same"), variant: "dense" })).rejects.toThrow("nothing would be cut");
  });
});

const BASE = join(SHARED, "models/base");
const VALID = join(SHARED, "data/text/valid.txt");

describe.skipIf(!fileExists(BASE) || !fileExists(VALID))("a real model, cut to a part of a text", () => {
  it("encodes the lines of the whole text as before where it can, and gives all of it back", {
    timeout: 60_000,
  }, async () => {
    const valid = readFileSync(VALID, "utf8");
    const folder = await cut("base-cut", { from: BASE, text: valid.slice(0, 100_000), size: 1500 });
    await opened(BASE, (source) =>
      opened(folder, async (model) => {
        const [before, after] = [await tokenizerOf(source), await tokenizerOf(model)];
        const same = expectSameTexts(keptOf(model), before, after, [...OTHERS, valid, ...valid.split("\n")]);
        expect(same).toBeGreaterThan(1000);
      }),
    );
  });
});
