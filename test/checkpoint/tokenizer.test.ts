// Tokenizers: the model's own file, GPT-2's older pair of files, the built-in vocabulary, and what is refused.
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadTokenizer } from "../../src/checkpoint/tokenizer.ts";
import { streamTokens } from "../../src/checkpoint/tokens.ts";

const fixtures = fileURLToPath(new URL("../../fixtures/", import.meta.url));
const model = join(fixtures, "tiny-gpt2");
let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "nfc-tokenizer-"));
});
afterAll(() => rm(folder, { recursive: true }));

/** A configuration with this vocabulary; the tokenizer reads nothing else of it. */
const withVocabulary = (vocab_size: number) => ({ vocab_size }) as Parameters<typeof loadTokenizer>[1];

describe("the model's tokenizer.json", () => {
  test("the model's tokenizer encodes and decodes", async () => {
    const tokenizer = await loadTokenizer(model, withVocabulary(384));
    const ids = tokenizer.encode("The old sailor.\n");
    expect(ids.length).toBeLessThan(12);
    expect(tokenizer.decode(ids)).toBe("The old sailor.\n");
    expect(tokenizer).toMatchObject({ size: 384 });
  });

  test("a special token in the text is one id", async () => {
    const tokenizer = await loadTokenizer(model, withVocabulary(384));
    expect(tokenizer.encode("<|endoftext|>")).toEqual([0]);
  });

  test("pieces of a text encode like the whole", async () => {
    const tokenizer = await loadTokenizer(model, withVocabulary(384));
    const path = join(folder, "long.txt");
    const text = (await readFile(join(fixtures, "text.txt"), "utf8")).repeat(20);
    await writeFile(path, text);
    const streamed: number[] = [];
    for await (const ids of streamTokens([path], tokenizer)) streamed.push(...ids);
    expect(streamed).toEqual(tokenizer.encode(text));
  });

  test("a tokenizer with more ids than the model is read, and only a text that has such a token is refused", async () => {
    const json = JSON.parse(await readFile(join(model, "tokenizer.json"), "utf8"));
    const pad = { id: 384, content: "[PAD]", single_word: false, lstrip: false, rstrip: false, normalized: false };
    json.added_tokens.push({ ...pad, special: true });
    const padded = await mkdtemp(join(folder, "padded-"));
    await writeFile(join(padded, "tokenizer.json"), JSON.stringify(json));
    const tokenizer = await loadTokenizer(padded, withVocabulary(384));
    const plain = await loadTokenizer(model, withVocabulary(384));
    expect(tokenizer.encode("The old sailor. [PAD")).toEqual(plain.encode("The old sailor. [PAD"));
    expect(() => tokenizer.encode("The [PAD] sailor")).toThrow(
      expect.objectContaining({
        code: "mismatch",
        message: expect.stringMatching(/json: the text has the token "\[PAD\]" with id 384, and .* only 384 tokens$/),
      }),
    );
    const large = await loadTokenizer(padded, withVocabulary(385));
    expect(large.encode("[PAD]")).toEqual([384]);
  });

  test("a file that is no tokenizer is refused", async () => {
    await writeFile(join(folder, "tokenizer.json"), '{"model":{"type":"Nonsense"}}');
    await expect(loadTokenizer(folder, withVocabulary(384))).rejects.toMatchObject({ code: "invalid-file" });
  });
});

test("vocab.json with merges.txt gives the same ids as tokenizer.json", async () => {
  const json = JSON.parse(await readFile(join(model, "tokenizer.json"), "utf8"));
  const older = await mkdtemp(join(folder, "older-"));
  await writeFile(join(older, "vocab.json"), JSON.stringify(json.model.vocab));
  const merges = json.model.merges.map((pair: string[]) => pair.join(" "));
  await writeFile(join(older, "merges.txt"), ["#version: 0.2", ...merges, ""].join("\n"));
  const [now, then] = [
    await loadTokenizer(model, withVocabulary(384)),
    await loadTokenizer(older, withVocabulary(384)),
  ];
  const text = "The quiet harbour answers, and <|endoftext|> naïve 123!";
  expect(then.encode(text)).toEqual(now.encode(text));
  expect(then.decode(then.encode(text))).toBe(text);
});

describe("a model without tokenizer files", () => {
  test("GPT-2's vocabulary is built in, its padded form too", async () => {
    for (const size of [50_257, 50_304]) {
      const tokenizer = await loadTokenizer(null, withVocabulary(size));
      // GPT-2's published ids.
      expect(tokenizer.encode("Hello world")).toEqual([15496, 995]);
      expect(tokenizer.encode("<|endoftext|>")).toEqual([50_256]);
      expect(tokenizer.decode([15496, 995])).toBe("Hello world");
    }
  });

  test("a vocabulary that is not GPT-2's is refused without tokenizer files", async () => {
    const empty = await mkdtemp(join(folder, "empty-"));
    await cp(join(model, "config.json"), join(empty, "config.json"));
    await expect(loadTokenizer(empty, withVocabulary(384))).rejects.toMatchObject({
      code: "not-found",
      message: expect.stringMatching(/no tokenizer\.json, and its vocabulary of 384 is not GPT-2's$/),
    });
  });
});
