// Ids in the tokens that a smaller model has kept: the same bytes, as the smaller tokenizer encodes them.
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { cutTokenizerFiles } from "../../src/checkpoint/cut-tokenizer.ts";
import { checkDefinition } from "../../src/checkpoint/encoding/definition.ts";
import { Pipeline } from "../../src/checkpoint/encoding/pipeline.ts";
import { KeptIds } from "../../src/checkpoint/kept-ids.ts";
import { makeTokenSplitter } from "../../src/checkpoint/token-splitter.ts";
import { countTokenUse } from "../../src/checkpoint/token-use.ts";
import { chooseTokens } from "../../src/convert/cuts/vocabulary-choice.ts";
import { failureOf } from "../support/failure.ts";
import { MODEL, TEXT } from "../support/fixture.ts";

const FILE = readFileSync(`${MODEL}/tokenizer.json`, "utf8");
const TEXT_CONTENT = readFileSync(TEXT, "utf8");
const define = (json: unknown) => checkDefinition(json, "tokenizer.json");
const DEFINITION = define(JSON.parse(FILE));

/** The tokenizer with the kept tokens alone, as a file. */
function cut(definition: typeof DEFINITION, file: string, kept: KeptIds): string {
  return cutTokenizerFiles(new Map([["tokenizer.json", file]]), { definition }, kept, null).files.get(
    "tokenizer.json",
  ) as string;
}

async function choose(size: number): Promise<KeptIds> {
  const texts = (async function* () {
    yield TEXT_CONTENT;
  })();
  const use = await countTokenUse(DEFINITION, texts, { rows: 384, named: [0] });
  return new KeptIds(chooseTokens(use, new Set([0, ...use.base]), size));
}

describe("makeTokenSplitter", () => {
  it.each([383, 320, 288, 257])(
    "with %i tokens, a text has the ids of its encoding by the smaller tokenizer",
    async (size) => {
      const kept = await choose(size);
      const file = cut(DEFINITION, FILE, kept);
      const [before, after] = [new Pipeline(DEFINITION), new Pipeline(define(JSON.parse(file)))];
      const ids = before.encode(TEXT_CONTENT);
      const parts = ids.flatMap(makeTokenSplitter(DEFINITION, file, kept));
      expect(parts.length).toBeGreaterThan(ids.length);
      expect(after.decode(parts)).toBe(TEXT_CONTENT);
      expect(parts).toEqual(after.encode(TEXT_CONTENT));
    },
  );

  it("an id without a token is refused", async () => {
    const kept = await choose(300);
    const split = makeTokenSplitter(DEFINITION, cut(DEFINITION, FILE, kept), kept);
    expect(await failureOf(async () => split(999))).toMatchObject({
      code: "mismatch",
      message: expect.stringContaining("token 999"),
    });
  });

  it("a token of WordPiece becomes its pieces, at the start of a word and after it", () => {
    const vocab = { "[UNK]": 0, a: 1, b: 2, "##a": 3, "##b": 4, "##ab": 5, ab: 6 };
    const model = { type: "WordPiece", unk_token: "[UNK]", vocab };
    const { split } = open({ model, decoder: { type: "WordPiece", prefix: "##", cleanup: true } }, [0, 1, 2, 3, 4]);
    expect([split(6), split(5)]).toEqual([
      [1, 4],
      [3, 4],
    ]);
  });

  it("a tokenizer that does not write a token as its parts is refused", async () => {
    const vocab = { a: 0, b: 1, "b</w>": 2, "ab</w>": 3 };
    const model = { type: "BPE", end_of_word_suffix: "</w>", vocab, merges: [["a", "b</w>"]] };
    const { split } = open({ model, decoder: { type: "BPEDecoder", suffix: "</w>" } }, [0, 1, 2]);
    expect(split(2)).toEqual([2]);
    expect(await failureOf(async () => split(3))).toMatchObject({
      code: "unsupported",
      hint: expect.stringContaining("--vocab-from"),
    });
  });
});

/** A splitter for a tokenizer.json that keeps some ids. */
function open(json: object, ids: readonly number[]) {
  const [file, definition, kept] = [JSON.stringify(json), define(json), new KeptIds(ids)];
  return { split: makeTokenSplitter(definition, cut(definition, file, kept), kept) };
}
