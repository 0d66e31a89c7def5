// Writes README.md of an export: the model, the size and loss of its files, and how to run it in each runtime.
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { writeText } from "../../checkpoint/model-folder.ts";
import type { NfcRecord } from "../../checkpoint/nfc-record.ts";
import { fileExists } from "../../io/exists.ts";
import type { ModelConfig } from "../../model/config.ts";
import { isPlainGpt2, VARIANT_TRAITS } from "../../model/variants.ts";
import { summarizeExport } from "../../report/collect-quality.ts";
import { type Block, heading, paragraph } from "../../report/render/blocks.ts";
import { renderMarkdown } from "../../report/render/markdown.ts";
import type { ExportSummary } from "../../report/report-schema.ts";
import { makeExportTable } from "../../report/report-tables.ts";
import { HF_CODE_FILE } from "../hf/hf-folder.ts";
import { choosePreferredFile } from "../onnx/transformers-js-config.ts";
import { describeOrigin, parseHubName } from "./card-text.ts";
import { makeClassifierRuntimes, makeRuntimes } from "./runtimes.ts";

export const MODEL_CARD_FILE = "README.md";

export interface ModelCard {
  /** The folder's name, which may hold any characters. */
  name: string;
  config: ModelConfig;
  record: NfcRecord;
  exports: ExportSummary["files"];
  /** The form of model.safetensors: compact, the same with its Python class, or plain GPT-2. */
  weights: "compact" | "hf" | "gpt2" | null;
  /** Files for llama.cpp. */
  gguf?: readonly string[] | undefined;
  /** Whether a tokenizer lies in the folder. */
  tokenizer: boolean;
}

/** Writes README.md into a folder that is complete otherwise; `name` is the folder's name once it is in place. */
export async function writeModelCard(
  folder: string,
  { name, config, record }: Pick<ModelCard, "name" | "config" | "record">,
): Promise<void> {
  const names = await readdir(folder);
  const weights = listWeights(names, config);
  const gguf = names.filter((file) => file.endsWith(".gguf")).sort();
  const tokenizer = fileExists(join(folder, "tokenizer.json"));
  const files = new Map((record.exports ?? []).map((entry) => [entry.precision, entry]));
  const exports = summarizeExport({ source: name, config, files, record }).files;
  await writeText(
    join(folder, MODEL_CARD_FILE),
    renderModelCard({ name, config, record, exports, weights, gguf, tokenizer }),
  );
}

function listWeights(names: readonly string[], { variant }: ModelConfig): ModelCard["weights"] {
  if (!names.some((name) => name.endsWith(".safetensors"))) return null;
  if (isPlainGpt2(variant)) return "gpt2";
  return names.includes(HF_CODE_FILE) ? "hf" : "compact";
}

/** The card as Markdown with the Hub's YAML header. Names from files can neither break the header nor the tables. */
export function renderModelCard(card: ModelCard): string {
  const { config, record, exports, tokenizer, name } = card;
  const body = renderMarkdown([
    heading(1, name),
    ...describeOrigin(config, record),
    ...(exports.length > 0 ? describeFiles(exports) : []),
    heading(2, "How to run it"),
    ...(tokenizer ? [] : [MISSING_TOKENIZER]),
    ...(config.labels ? makeClassifierRuntimes : makeRuntimes)({
      ...card,
      name: nameSnippetModel(name),
      onnx: choosePreferredFile(exports),
      precisions: exports.map(({ precision }) => precision),
    }),
    paragraph("Licence: that of the source. Add ", { code: "license:" }, " to the header before publishing."),
  ]);
  return `${renderHeader(card)}\n\n${body}`;
}

const MISSING_TOKENIZER = paragraph(
  "The folder has no ",
  { code: "tokenizer.json" },
  ": put that of the source beside ",
  { code: "config.json" },
  " first (nfc has GPT-2's own built in).",
);

function renderHeader({ config, record, exports, weights, gguf = [] }: ModelCard): string {
  const base = parseHubName(record);
  const tags = [
    "gpt2",
    ...(exports.length > 0 ? ["onnx", "transformers.js"] : []),
    ...(gguf.length > 0 ? ["gguf"] : []),
    ...listAttentionTags(config),
    ...(weights === "hf" ? ["custom_code"] : []),
    "nfc",
  ];
  return [
    "---",
    `library_name: ${exports.length > 0 ? "transformers.js" : "transformers"}`,
    `pipeline_tag: ${config.labels ? "text-classification" : "text-generation"}`,
    "tags:",
    ...tags.map((tag) => `  - ${tag}`),
    ...(base === null ? [] : [`base_model: ${JSON.stringify(base)}`]),
    "---",
  ].join("\n");
}

function listAttentionTags({ variant }: ModelConfig): string[] {
  const { tied, paired, narrow } = VARIANT_TRAITS[variant];
  if (paired) return ["pairwise-attention"];
  if (tied) return ["noiseformer", "symmetric-attention"];
  return narrow ? ["low-rank-attention"] : [];
}

function describeFiles(files: ExportSummary["files"]): Block[] {
  const { table, text } = makeExportTable({ files });
  const int8 = files.some(({ precision }) => precision === "int8");
  return [
    heading(2, "Files"),
    table,
    ...(text === null ? [] : [paragraph(`Measured on ${text}.`)]),
    ...(int8
      ? [paragraph("On WebGPU the products of ", { code: "int8" }, " fall to the CPU: use ", { code: "q4" }, " there.")]
      : []),
  ];
}

/** The name where JavaScript, Python and a shell read it alike, else one for the reader to replace. */
function nameSnippetModel(name: string): string {
  return /^\w[\w.-]*$/.test(name) ? name : "model-folder";
}
