// nfc.json: the record of a model's variant, tie, provenance and history, checked when it is read.
import { join } from "node:path";
import { z } from "zod";
import { parseJsonWith, refuseOtherVersion } from "../io/json.ts";
import { PRECISIONS } from "../model/precision.ts";
import { TRAINED_PRECISIONS } from "../model/quantization.ts";
import { VARIANTS } from "../model/variants.ts";
import { readCompanionJson } from "./companion-files.ts";

export const NFC_RECORD_FILE = "nfc.json";
export const NFC_RECORD_FORMAT = "nfc/1";

/** nfc.json holds a few numbers per head; a larger file was not written by this tool. */
const MAX_RECORD_BYTES = 16 * 2 ** 20;

/**
 * Scored tokens from which on a perplexity tells something of a model: between two models the mean loss of fewer differs
 * by chance as much as by quality (docs/decisions/0038-least-scored-tokens.md).
 */
export const LEAST_SCORED_TOKENS = 256;

const count = z.int().nonnegative();
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, "must be 64 hexadecimal digits");

const calibrationSchema = z.object({ file: z.string(), sha256, tokens: count });
const tieSchema = z.object({
  strategy: z.string(),
  calibration: calibrationSchema.nullable(),
  /** [layer][head]: relative error of the tied bilinear form. */
  errors: z.array(z.array(z.number().nonnegative())),
  /** [layer][head]: the error that low-rank attention of as many parameters would have. */
  lowRankErrors: z.array(z.array(z.number().nonnegative())).exactOptional(),
});
/** What was cut away besides the tie of Q and K; each cut names itself in `axis` and says what it kept. */
const cutSchema = z.looseObject({ axis: z.string() });
const sourceSchema = z.object({
  path: z.string(),
  files: z.array(z.object({ name: z.string(), bytes: count, sha256 })),
  parameters: count,
  /** How many of the cuts it had already, where it had any: they are the first ones. */
  cuts: count.exactOptional(),
});
const perplexitySchema = z.object({
  /** The text it was measured on. */
  file: z.string(),
  sha256,
  tokens: count,
  /** Window length and distance of the windows' starts, in tokens. */
  length: count.exactOptional(),
  stride: count.exactOptional(),
  /** exp(mean negative log-likelihood per token). */
  perplexity: z.number().positive(),
  /** Bits that a byte of the text takes, which compares models of different tokens; not of a text of token ids. */
  bitsPerByte: z.number().positive().exactOptional(),
  /** Perplexity of the source model on the same text. */
  source: z.number().positive().exactOptional(),
});

const exportedPerplexitySchema = z.object({
  ...perplexitySchema.shape,
  length: count,
  stride: count,
  /** Perplexity of the float32 model on the same text. */
  source: z.number().positive().exactOptional(),
  /** Against the float32 model, all null without one: mean KL(float32 ‖ file) of a token, in nats; */
  kl: z.number().nullable(),
  /** share of positions with the same most likely token; */
  agreement: z.number().min(0).max(1).nullable(),
  /** root mean square of the logits' differences, each position's mean difference left out. */
  logitError: z.number().nonnegative().nullable(),
});

const taskScoreSchema = z.object({
  /** A task of GLUE, such as "sst2"; then its development file and the hash of the examples. */
  task: z.string(),
  file: z.string(),
  sha256,
  examples: count,
  /** Most tokens of a text. */
  length: count,
  loss: z.number(),
  /** The task's own metric is the first; one that is not defined is null. */
  metrics: z.record(z.string(), z.number().nullable()),
});

const bitsSchema = z.literal([2, 4, 8]);
/** The bits of each matrix in mixed, by name. */
export const mixedBitsSchema = z.record(z.string(), bitsSchema);

/** The rounding of an export that a model was trained for: its weights are the numbers that the codes stand for. */
export const quantizationSchema = z.object({
  precision: z.enum(TRAINED_PRECISIONS),
  /** Inputs that share a scale, and whether blocks lack zero points; absent in int8. */
  block: count.exactOptional(),
  symmetric: z.boolean().exactOptional(),
  /** Bits of the token embedding, where they are not those of the precision. */
  embeddingBits: bitsSchema.exactOptional(),
  bits: mixedBitsSchema.exactOptional(),
});

/** One ONNX file of an export: how its weights were rounded, and what it was measured to lose by that. */
const exportEntrySchema = z.object({
  precision: z.enum(PRECISIONS),
  /** The path below the folder: onnx/model_q4.onnx. */
  file: z.string(),
  /** Bytes of the file and its external data. */
  bytes: count,
  /** Inputs that share a scale. */
  block: count.exactOptional(),
  symmetric: z.boolean().exactOptional(),
  /** Bits of the token embedding, where weights are stored in blocks. */
  embeddingBits: count.exactOptional(),
  /** Most bytes that a mixed file might have, and the bits of its weights by their names. */
  budget: count.exactOptional(),
  bits: mixedBitsSchema.exactOptional(),
  /** 7 bits in 8, for processors whose int8 sums saturate. */
  reduceRange: z.boolean().exactOptional(),
  /** How codes were chosen: "least-squares", "gptq", "trained" for those that the model was trained with, … */
  method: z.string().exactOptional(),
  calibration: calibrationSchema.exactOptional(),
  perplexity: exportedPerplexitySchema.exactOptional(),
  /** Scores of a classifier. */
  tasks: z.array(taskScoreSchema).exactOptional(),
});

export type ExportEntry = z.infer<typeof exportEntrySchema>;

/** The zod schema of nfc.json. Unknown keys are dropped, so that later versions may add some. */
export const nfcRecordSchema = z.object({
  format: z.literal(NFC_RECORD_FORMAT),
  tool: z.object({ name: z.string(), version: z.string() }),
  variant: z.enum(VARIANTS),
  tie: tieSchema.nullable(),
  /** Further cuts, in the order in which they were made, with those of the source. */
  cuts: z.array(cutSchema).exactOptional(),
  /** The step of a plan that the cuts were taken from. */
  plan: z.object({ file: z.string(), sha256, step: count }).exactOptional(),
  source: sourceSchema,
  /** The command line that made the model. */
  command: z.array(z.string()),
  /** Training steps and the like, oldest first; each names itself in `step`. */
  history: z.array(z.looseObject({ step: z.string() })),
  notes: z.array(z.string()),
  quantization: quantizationSchema.optional(),
  perplexity: z.array(perplexitySchema).exactOptional(),
  /** The ONNX files of an export, in the order of PRECISIONS. */
  exports: z.array(exportEntrySchema).exactOptional(),
});

export type NfcRecord = z.infer<typeof nfcRecordSchema>;

/**
 * Checks the content of an nfc.json.
 * @throws NfcError `unsupported` for another format version, `invalid-file` for anything else that does not fit.
 */
export function parseNfcRecord(raw: unknown, file: string): NfcRecord {
  refuseOtherVersion(raw, file, NFC_RECORD_FORMAT, "use the version of nfc that wrote the model, or a newer one");
  const hint = "restore the file, or delete it: the variant is then read from the tensors and config.json";
  return parseJsonWith(nfcRecordSchema, raw, file, hint);
}

/** Reads `folder`/nfc.json; null when there is none. */
export async function readNfcRecord(folder: string): Promise<NfcRecord | null> {
  const value = await readCompanionJson(folder, NFC_RECORD_FILE, { maxBytes: MAX_RECORD_BYTES });
  return value === undefined ? null : parseNfcRecord(value, join(folder, NFC_RECORD_FILE));
}

/** Whether a record is of a model that was tied or cut: it has its source's parameters, changed. */
export function isConverted({ tie, cuts }: NfcRecord): boolean {
  return tie !== null || cuts !== undefined;
}

/** The cuts that its source did not have yet. */
export function listOwnCuts({ cuts = [], source }: Pick<NfcRecord, "cuts" | "source">): NonNullable<NfcRecord["cuts"]> {
  return cuts.slice(source.cuts ?? 0);
}

/** The text of nfc.json for a record. */
export function formatNfcRecord(record: NfcRecord): string {
  return `${JSON.stringify(record, null, 2)}\n`;
}
