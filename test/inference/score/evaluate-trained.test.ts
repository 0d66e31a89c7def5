// Perplexity of a trained model against Hugging Face's own number.
import { closeSync, existsSync, openSync, readSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { loadTokenizer } from "../../../src/checkpoint/tokenizer.ts";
import { streamTokens } from "../../../src/checkpoint/tokens.ts";
import { evaluate } from "../../../src/inference/score/evaluate.ts";
import { opened, SHARED } from "../../support/fixture.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("evaluate-trained");
const base = join(SHARED, "models/base");
const valid = join(SHARED, "data/text/valid.txt");

describe.skipIf(!existsSync(base) || !existsSync(valid))("a trained model's perplexity", () => {
  /** The first 28,000 bytes of valid.txt: 8,105 tokens. */
  function excerpt(): string {
    const file = path("valid-28000.txt");
    const bytes = Buffer.alloc(28_000);
    const handle = openSync(valid, "r");
    readSync(handle, bytes, 0, bytes.length, 0);
    closeSync(handle);
    writeFileSync(file, bytes);
    return file;
  }

  // Hugging Face's recipe ("Perplexity of fixed-length models"), transformers 5.18, PyTorch float32 on these 8,105 tokens.
  it.each([
    [256, 53.62705695052299, 8073],
    [128, 52.342186422275404, 8104],
  ])("the perplexity of a trained model with stride %i is Hugging Face's", async (stride, expected, tokens) => {
    const file = excerpt();
    await opened(base, async (model) => {
      const text = streamTokens([file], await loadTokenizer(model.folder, model.config));
      const result = await evaluate(model, { tokens: text, stride });
      expect(Math.abs(result.perplexity / expected - 1)).toBeLessThan(1e-6);
      expect(result.tokens).toBe(tokens);
    });
  });
});
