// The format nfc-comparison/1: several models side by side.
import { z } from "zod";
import { VARIANTS } from "../../model/variants.ts";

export const COMPARISON_FORMAT = "nfc-comparison/1";

const count = z.int().nonnegative();
const parameters = count
  .nullable()
  .describe("weights; null where codes are packed in a way that headers do not explain");
const percent = z.number().nullable();

const modelSchema = z.object({
  source: z.string().describe("as the user named it, or the file of a folder that the user named"),
  kind: z.enum(["safetensors", "onnx"]),
  weights: z.string().describe("F32, F16, …; for ONNX files named as nfc names them the precision: int8, q4, …"),
  variant: z.enum(VARIANTS).nullable().describe("null where neither nfc.json nor the shapes tell"),
  parameters,
  bytes: count.describe("of all files of the model, with headers, graph and external data"),
  brotli: count.exactOptional().describe("of these files after brotli at quality 5; only where it was asked for"),
  change: z
    .object({ parameters: percent, bytes: percent })
    .nullable()
    .describe("against the first model, in %; null for the first itself"),
  groups: z.array(z.object({ group: z.string(), parameters, bytes: count })),
  quality: z
    .array(
      z.object({
        measure: z.string().describe("perplexity, or a metric such as accuracy"),
        on: z.string().describe("the text or task"),
        examples: count.nullable().describe("tokens scored; null for tasks"),
        value: z.number(),
      }),
    )
    .describe("what nfc.json noted"),
  notes: z.array(z.string()).describe("signs of accidents, such as a head that is stored twice"),
});

/** The zod schema of a comparison. JSON Schema: schema/nfc-comparison-1.schema.json. */
export const comparisonSchema = z.object({
  format: z.literal(COMPARISON_FORMAT),
  tool: z.object({ name: z.string(), version: z.string() }),
  title: z.string().nullable(),
  models: z.array(modelSchema).min(1),
});

export type Comparison = z.infer<typeof comparisonSchema>;
export type ComparedModel = Comparison["models"][number];
