// Reads nfc.size.json, or the key "nfc" of package.json: the models to check and their limits.
import { join } from "node:path";
import { z } from "zod";
import { NfcError } from "../errors.ts";
import { fileExists } from "../io/exists.ts";
import { parseJsonWith, readJsonFile } from "../io/json.ts";
import { ACCIDENT_KINDS } from "../report/weigh/header-tensors.ts";
import { parseBytes, parseGrowth } from "./units.ts";

const CONFIG_FILE_NAME = "nfc.size.json";
export const BASELINE_FILE_NAME = "nfc.baseline.json";
const EXAMPLE = '{ "models": [{ "path": "models/onnx/*.onnx", "limit": "80MB", "maxGrowth": "1%" }] }';

const CORRECT = `a correct one: ${EXAMPLE}`;

const bytes = z
  .union([z.int().positive(), z.string()])
  .refine((value) => typeof value === "number" || parseBytes(value) !== null, { error: 'is no size such as "80 MB"' });
const growth = z
  .string()
  .refine((value) => parseGrowth(value) !== null, { error: 'is no growth such as "1 %" or "1 MB"' });

const entrySchema = z.strictObject({
  name: z.string().min(1).optional().describe("What the model is called; its path unless given"),
  path: z.string().min(1).describe("File, folder or glob, below the folder of this file; sizes are added up"),
  limit: bytes.optional().describe('Most bytes, such as "80 MB" (10^6) or "80 MiB" (2^20)'),
  brotliLimit: bytes.optional().describe("Most bytes after brotli compression; the files are then read as a whole"),
  maxParameters: z.int().positive().optional().describe("Most parameters"),
  maxGrowth: growth.optional().describe('Most growth against the baseline, such as "1 %" or "500 kB"; "0": none'),
  maxPerplexity: z.number().positive().optional().describe("Largest perplexity that nfc.json of the model may note"),
  maxBitsPerByte: z.number().positive().optional().describe("Most bits a byte of text that nfc.json may note"),
  minAccuracy: z.number().min(0).max(1).optional().describe("Least accuracy that nfc.json of a classifier may note"),
  dtype: z.string().optional().describe("Weights' format, such as F16: others, or the baseline's unless given, fail"),
  allow: z.array(z.enum(ACCIDENT_KINDS)).optional().describe("Accidents that are meant"),
});
export type SizeEntry = z.infer<typeof entrySchema>;

export const sizeConfigSchema = z.strictObject({
  $schema: z.string().optional(),
  baseline: z.string().min(1).optional().describe(`Baseline file; ${BASELINE_FILE_NAME} unless given`),
  models: z.array(entrySchema).min(1),
});
export type SizeConfig = z.infer<typeof sizeConfigSchema>;

/** A configuration and where it was read. */
export interface FoundConfig {
  file: string;
  config: SizeConfig;
}

/**
 * `file` if it is given; else nfc.size.json or the key "nfc" of package.json in `folder`.
 * @throws NfcError "not-found" without one, "invalid-file" naming the key that does not fit
 */
export async function readSizeConfig(folder: string, file?: string): Promise<FoundConfig> {
  const own = file ?? join(folder, CONFIG_FILE_NAME);
  if (file !== undefined || fileExists(own))
    return { file: own, config: parseSizeConfig(await readJsonFile(own, { hint: CORRECT }), own) };
  const manifest = join(folder, "package.json");
  if (fileExists(manifest)) {
    const hint = "it is no manifest of a package: mend it, or name a configuration with --config";
    const { nfc } = parseJsonWith(z.looseObject({ nfc: z.unknown() }), await readJsonFile(manifest), manifest, hint);
    if (nfc !== undefined) return { file: manifest, config: parseSizeConfig(nfc, `${manifest}: nfc`) };
  }
  throw new NfcError("not-found", `${own}: no such file, and no key "nfc" in a package.json`, {
    hint: `write one, for example ${EXAMPLE}`,
  });
}

/** @throws NfcError "invalid-file" naming the key, with a correct example */
function parseSizeConfig(raw: unknown, file: string): SizeConfig {
  const config = parseJsonWith(sizeConfigSchema, raw, file, CORRECT);
  const names = config.models.map(({ name, path }) => name ?? path);
  if (names.includes("__proto__"))
    throw new NfcError("invalid-file", `${file}: models: __proto__ is no name for a model`, {
      hint: "give it another",
    });
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice === undefined) return config;
  throw new NfcError("invalid-file", `${file}: models: two are called ${JSON.stringify(twice)}`, {
    hint: 'give them names of their own: { "name": "int8", "path": … }',
  });
}
