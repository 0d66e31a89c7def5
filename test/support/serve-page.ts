// Writes texts in the page of nfc serve, and the same by our own decoder.
import type { Page } from "playwright-core";
import { loadTokenizer } from "../../src/checkpoint/tokenizer.ts";
import { chooseFile, openExportedModel } from "../../src/inference/exported/exported-model.ts";
import { Decoder } from "../../src/inference/generate/decoder.ts";
import { decodePrompts } from "../../src/inference/generate/generate.ts";
import type { Precision } from "../../src/model/precision.ts";

export const PROMPT = "Anna keeps her old lantern in the tower. Boris keeps his";
export const TOKENS = 24;

/** The greedy text of an export by our own decoder. */
export async function greedyText(
  folder: string,
  precision: Precision,
  { prompt = PROMPT, tokens = TOKENS } = {},
): Promise<string> {
  const model = await openExportedModel(folder);
  const tokenizer = await loadTokenizer(model.folder, model.config);
  // Unpacked weights multiply in float32, as WebAssembly does; packed blocks would round activations.
  const options = { threads: 1, shortLived: true };
  const decoder = await Decoder.ofFile(chooseFile(model, precision), model.config, options);
  let text = "";
  for await (const event of decodePrompts(decoder, tokenizer, [tokenizer.encode(prompt)], { maxNewTokens: tokens }))
    text += event.text;
  await decoder.close();
  return text;
}

/** What the page has written, at temperature 0 unless told otherwise. */
export async function write(
  page: Page,
  prompt: string,
  tokens: number,
  { temperature = 0, seed = "" } = {},
): Promise<string> {
  await page.getByLabel("Temperature").fill(String(temperature));
  await page.getByLabel("Seed").fill(seed);
  await page.getByLabel("Prompt").fill(prompt);
  await page.getByLabel("New tokens").fill(String(tokens));
  await page.getByRole("button", { name: "Generate" }).click();
  await page.getByText(/^(Done|Ended|The model ended)/).waitFor({ timeout: 120_000 });
  return (await page.locator("#written").textContent()) ?? "";
}
