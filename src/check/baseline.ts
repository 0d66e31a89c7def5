// Reads and writes nfc.baseline.json, the accepted sizes of the models, which belongs into version control.
import { z } from "zod";
import { NfcError } from "../errors.ts";
import { fileExists } from "../io/exists.ts";
import { parseJsonWith, readJsonFile } from "../io/json.ts";
import { writeFileAtomic } from "../io/staging.ts";
import { TOOL } from "../version.ts";

export const BASELINE_FORMAT = "nfc-baseline/1";

const count = z.int().nonnegative();
const baselineEntrySchema = z.object({
  bytes: count,
  brotli: count.exactOptional().describe("Bytes after brotli at quality 5, of a model with a brotliLimit"),
  parameters: count.nullable().describe("Null where weights are packed in a way that headers do not explain"),
  attention: z
    .union([z.literal(2), z.literal(3)])
    .nullable()
    .describe("Columns of c_attn in widths: 3 of GPT-2, 2 where Q and K are tied or of half the rank"),
  queryKey: z
    .record(z.string(), count)
    .exactOptional()
    .describe(
      "Layers by the columns of c_attn that are Q and K, in widths: 2 of GPT-2, 1 where they are tied, less of low rank; baselines of earlier versions have none",
    ),
  groups: z
    .record(z.string(), z.object({ bytes: count, parameters: count.nullable() }))
    .describe("Bytes and parameters by group of tensors"),
  dtypes: z.record(z.string(), count).describe("Bytes of matrices by format"),
  files: z.record(z.string(), z.object({ bytes: count, sha256: z.string().regex(/^[0-9a-f]{64}$/) })),
});
export type BaselineEntry = z.infer<typeof baselineEntrySchema>;

export const baselineSchema = z.object({
  format: z.literal(BASELINE_FORMAT),
  tool: z.object({ name: z.string(), version: z.string() }),
  models: z.record(z.string(), baselineEntrySchema),
});
export type Baseline = z.infer<typeof baselineSchema>;

/** @throws NfcError "not-found", "invalid-file" naming the key that does not fit */
export async function readBaseline(file: string): Promise<Baseline> {
  const hint = "restore it from version control, or write it anew: nfc check --update-baseline";
  if (!fileExists(file)) throw new NfcError("not-found", `${file}: no such file`, { hint });
  return parseJsonWith(baselineSchema, await readJsonFile(file, { hint }), file, hint);
}

/** The entry of a model, or null; the name may be that of a property which every object inherits. */
export function findEntry(baseline: Baseline | null, name: string): BaselineEntry | null {
  return baseline !== null && Object.hasOwn(baseline.models, name) ? (baseline.models[name] as BaselineEntry) : null;
}

/** Replaces the whole file. Keys are sorted, so that a change is a small difference. */
export async function writeBaseline(file: string, models: Readonly<Record<string, BaselineEntry>>): Promise<void> {
  const sorted = Object.fromEntries(Object.entries(models).sort(([a], [b]) => (a < b ? -1 : 1)));
  const baseline: Baseline = { format: BASELINE_FORMAT, tool: TOOL, models: sorted };
  await writeFileAtomic(file, `${JSON.stringify(baseline, null, 2)}\n`);
}
