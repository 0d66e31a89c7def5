// The number of tokens of the tokenizer beside a checkpoint.
import { mkdir, writeFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { readTokenizerSize } from "../../src/checkpoint/vocabulary-size.ts";
import { failureOf } from "../support/failure.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("vocabulary");

async function folderWith(name: string, files: Record<string, unknown>): Promise<string> {
  await mkdir(path(name));
  for (const [file, content] of Object.entries(files)) await writeFile(path(name, file), JSON.stringify(content));
  return path(name);
}

describe("the size of a tokenizer", () => {
  it("the size is one more than the largest id of tokenizer.json, added tokens included", async () => {
    const tokenizer = { model: { vocab: { a: 0, b: 4 } }, added_tokens: [{ id: 6, content: "<|end|>" }] };
    expect(
      await readTokenizerSize(await folderWith("json", { "tokenizer.json": tokenizer, "vocab.json": { a: 99 } })),
    ).toBe(7);
  });

  it("the size is known without added tokens", async () => {
    expect(
      await readTokenizerSize(await folderWith("plain", { "tokenizer.json": { model: { vocab: { a: 2 } } } })),
    ).toBe(3);
  });

  it("vocab.json gives the size where there is no tokenizer.json", async () => {
    expect(await readTokenizerSize(await folderWith("vocab", { "vocab.json": { a: 0, b: 1 } }))).toBe(2);
  });

  it("the size is unknown without tokenizer.json and vocab.json", async () => {
    expect(await readTokenizerSize(await folderWith("none", {}))).toBeUndefined();
  });

  it.each([
    ["no-vocab", { model: {} }],
    ["no-model", {}],
    ["no-ids", { model: { vocab: { a: "0" } }, added_tokens: ["x"] }],
  ])("a tokenizer file without ids is refused (%s)", async (name, tokenizer) => {
    const folder = await folderWith(name, { "tokenizer.json": tokenizer });
    const error = await failureOf(() => readTokenizerSize(folder));
    expect(error.code).toBe("invalid-file");
    expect(error.message).toContain(`${folder}/tokenizer.json`);
  });
});
