// README.md of an export: a snapshot, the snippets of each kind of folder, and names that try to break out.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { writeModelFiles } from "../../../src/checkpoint/model-folder.ts";
import {
  MODEL_CARD_FILE,
  type ModelCard,
  renderModelCard,
  writeModelCard,
} from "../../../src/export/card/model-card.ts";
import { makeHfConfigKeys, writeHfWeights } from "../../../src/export/hf/hf-folder.ts";
import type { ModelConfig } from "../../../src/model/config.ts";
import { fakeCheckpoint, recordOf, SHA, TINY } from "../../support/fake-checkpoint.ts";
import { opened } from "../../support/fixture.ts";
import { writeCheckpoint } from "../../support/make-checkpoint.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("model-card");
const config: ModelConfig = { ...TINY, variant: "noise-distance" };

const measured = (value: number) => ({
  file: "valid.txt",
  sha256: SHA("c"),
  tokens: 249149,
  float32: 61.34,
  perplexity: value,
  kl: 0.0012,
  agreement: 0.981,
  logitError: 0.03,
});

function card(source: string, changes: Partial<ModelCard> = {}): ModelCard {
  const before = fakeCheckpoint(TINY, { source });
  const record = recordOf(before, config, {
    tool: { name: "nfc", version: "1.2.3" },
    history: [
      {
        step: "distill",
        settings: { steps: 500 },
        tokens: 2048000,
        held_out: { perplexity: { before: 72.68, after: 60.1 } },
      },
      { step: "export" },
    ],
    perplexity: [{ file: "valid.txt", sha256: SHA("c"), tokens: 249149, perplexity: 61.34, source: 63.8 }],
  });
  const files = [
    { precision: "fp32", file: "onnx/model.onnx", bytes: 20000, ratio: 1.001, quality: null },
    { precision: "int8", file: "onnx/model_quantized.onnx", bytes: 5000, ratio: 0.26, quality: measured(61.4) },
  ] as const;
  return { name: "my-model", config, record, exports: [...files], weights: null, tokenizer: true, ...changes };
}

const blocks = (markdown: string) => markdown.split("\n\n");
const sections = (markdown: string) => [...markdown.matchAll(/^### (.*)$/gm)].map(([, title]) => title);

describe("the model card", () => {
  it.each([
    [
      { variant: "low-rank", qk_ranks: [3, 2], vo_ranks: [4, 4] },
      [
        "  - low-rank-attention",
        "Q and K cut to low rank by the strategy",
        "; numbers a head: q and k 2 to 3 of 4, v 4 of 4.",
      ],
      "[8, 20]",
    ],
    [{ variant: "pairwise" }, ["  - pairwise-attention", "Q and K made one projection by the strategy"], "[C, 2C]"],
    [{ variant: "symmetric" }, ["  - symmetric-attention", "Q and K tied by the strategy"], "[C, 2C]"],
  ] as const)("the card of %j has its own words", (form, words, shape) => {
    const config = { ...TINY, ...form } as ModelConfig;
    const text = renderModelCard(card("models/base", { config, weights: "compact" }));
    for (const word of words) expect(text).toContain(word);
    if (form.variant !== "symmetric") expect(text).not.toMatch(/tied by|noiseformer\n|symmetric-attention/);
    if (form.variant === "low-rank") expect(text).not.toContain("onnxruntime-genai");
    else expect(text).toContain("### onnxruntime-genai (Python)");
    expect(text).toContain(shape);
  });

  it("the card says what the model was trained for", () => {
    const { record, ...rest } = card("base");
    const quantization = { precision: "q4", block: 64, symmetric: true } as const;
    const text = renderModelCard({ ...rest, record: { ...record, quantization } });
    expect(text).toContain("- Trained for q4 in blocks of 64 without zero points: its weights are that precision's");
    expect(renderModelCard(card("base"))).not.toContain("Trained for");
  });

  it("the card for two precisions is exactly this", async () => {
    await expect(renderModelCard(card("hf://owner/base@main"))).toMatchFileSnapshot("snapshots/model-card.md");
  });

  it("the card has the snippets for the files in the folder", () => {
    const none = { exports: [] };
    expect(sections(renderModelCard(card("base", { ...none, weights: "compact" })))).toEqual([
      "nfc",
      "transformers (Python)",
    ]);
    expect(renderModelCard(card("base", { ...none, weights: "hf" }))).toContain("trust_remote_code=True");
    expect(renderModelCard(card("base", { ...none, weights: "gpt2" }))).not.toContain("trust_remote_code");
    expect(sections(renderModelCard(card("base", { weights: "hf" })))).toHaveLength(7);
  });

  it("the card's snippet feeds a float16 cache where no other file exists", () => {
    const half = { precision: "q4f16", file: "onnx/model_q4f16.onnx", bytes: 1, ratio: 0.1, quality: null } as const;
    expect(renderModelCard(card("base", { exports: [half] }))).toContain("(1, 2, 0, 4), np.float16)");
    expect(renderModelCard(card("base"))).toContain("(1, 2, 0, 4), np.float32)");
  });

  it("the card names a base model only when it lies on the Hub, and never a folder of this machine", () => {
    expect(renderModelCard(card("hf://owner/base@main"))).toContain('\nbase_model: "owner/base"\n');
    const local = renderModelCard(card("/home/somebody/secret/base/"));
    expect(local).not.toContain("base_model");
    expect(local).not.toContain("secret");
    expect(local).toContain("from `base`");
  });

  it("the card says when the tokenizer is missing", () => {
    expect(renderModelCard(card("base", { tokenizer: false }))).toContain("no `tokenizer.json`");
    expect(renderModelCard(card("base"))).not.toContain("no `tokenizer.json`");
  });
});

it("names cannot break the markup of a model card", () => {
  const unit = fc.constantFrom("|", "\\", "`", "a", "\n", "<", "*", " ", "_", "-", "#", '"', "'", "@", ":", "\u202e");
  const usual = renderModelCard(card("base", { name: "model-folder" }));
  fc.assert(
    fc.property(fc.string({ unit, maxLength: 12 }), (name) => {
      const quality = { ...measured(61.4), file: name };
      const file = { precision: "int8", file: name, bytes: 5000, ratio: 0.26, quality } as const;
      const evil = card(`hf://${name}`, { name, exports: [file] });
      const markdown = renderModelCard({
        ...evil,
        record: { ...evil.record, notes: [name], history: [{ step: name }] },
      });
      expect(
        markdown
          .split("\n")
          .slice(0, 11)
          .filter((line) => line === "---"),
      ).toHaveLength(2);
      expect(sections(markdown)).toEqual(sections(usual));
      const table = blocks(markdown).find((block) => block.startsWith("| precision")) ?? "";
      const widths = table.split("\n").map((line) => line.split(/(?<!\\)\|/).length);
      expect(widths).toHaveLength(3);
      expect(new Set(widths).size).toBe(1);
      // Only a line of its own closes a fence: backticks within a line of code do not.
      const prose = markdown.replaceAll(/^```[\s\S]*?^```$/gm, "");
      expect(prose.replaceAll(/`[^`\n]*`|<\/?code>/g, "")).not.toMatch(/(?<!\\)<|\u202e/);
    }),
    { numRuns: 200, examples: [["```<"]] },
  );
});

it("a model card is written from the files in a folder", async () => {
  const source = await writeCheckpoint(path("tied"), { variant: "symmetric" });
  mkdirSync(path("hf"));
  await opened(source, async (checkpoint) => {
    await writeHfWeights(path("hf"), checkpoint);
    await writeModelFiles(path("hf"), checkpoint, checkpoint.config, { extra: makeHfConfigKeys(checkpoint.config) });
    writeFileSync(path("hf", "tokenizer.json"), "{}");
    const record = recordOf(checkpoint, checkpoint.config, {});
    await writeModelCard(path("hf"), { name: "final-name", config: checkpoint.config, record });
  });
  const markdown = readFileSync(path("hf", MODEL_CARD_FILE), "utf8");
  expect(markdown).toContain("# final-name\n");
  expect(markdown).toContain('"final-name", trust_remote_code=True');
  expect(markdown).not.toContain("no `tokenizer.json`");
  expect(sections(markdown)).toEqual(["nfc", "transformers (Python)"]);
});
