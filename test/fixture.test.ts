// fixtures/ holds what scripts/make-fixture.mjs makes: texts and tokenizer exactly, and weights that learned the text.
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { loadTokenizer } from "../src/checkpoint/tokenizer.ts";
import { streamTokens } from "../src/checkpoint/tokens.ts";
import { evaluate } from "../src/inference/score/evaluate.ts";
import { MODEL, opened, TEXT } from "./support/fixture.ts";

const script = (name: string) => import(new URL(`../scripts/${name}`, import.meta.url).href);

it("the texts and the tokenizer are those of the scripts", async () => {
  const { makeText } = await script("fixture-text.mjs");
  const { learnMerges, tokenizerJson } = await script("fixture-tokenizer.mjs");
  expect(readFileSync(TEXT, "utf8")).toBe(makeText(32_000, 3));
  expect(readFileSync("fixtures/train.txt", "utf8")).toBe(makeText(200_000, 2));
  const tokenizer = tokenizerJson(learnMerges(makeText(3_000_000, 1), 127));
  expect(JSON.parse(readFileSync(`${MODEL}/tokenizer.json`, "utf8"))).toEqual(tokenizer);
});

it("the model predicts a text that it has not seen far better than a guess", async () => {
  const { perplexity } = await opened(MODEL, async (model) => {
    const tokens = streamTokens([TEXT], await loadTokenizer(model.folder, model.config));
    return evaluate(model, { tokens, threads: 1 });
  });
  expect(perplexity).toBeLessThan(1.85); // a guess: 384
});
