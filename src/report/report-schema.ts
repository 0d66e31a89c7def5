// The report format nfc-report/1: its zod schema, its type, and the check of files that users hand us.
import { z } from "zod";
import { quantizationSchema } from "../checkpoint/nfc-record.ts";
import type { FloatDtype } from "../formats/dtype.ts";
import { parseJsonWith, refuseOtherVersion } from "../io/json.ts";
import { ACTIVATIONS } from "../model/config.ts";
import { PARAMETER_GROUPS } from "../model/parameters.ts";
import { PRECISIONS } from "../model/precision.ts";
import { VARIANTS } from "../model/variants.ts";

export const REPORT_FORMAT = "nfc-report/1";

const FLOAT_DTYPES = ["F64", "F32", "F16", "BF16"] as const satisfies readonly FloatDtype[];

const count = z.int().nonnegative();
const brotli = count.describe("after brotli compression at quality 5; only of a report that was asked for it");
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, "must be 64 hexadecimal digits");
const tool = z.object({ name: z.string(), version: z.string() });

/** How an amount changes. */
const changeSchema = z
  .object({
    before: count,
    after: count,
    difference: z.int().describe("after - before"),
    percent: z.number().nullable().describe("100 * difference / before; null when before is 0"),
  })
  .superRefine((change, context) => {
    if (change.difference === change.after - change.before) return;
    const message = `must be after - before, ${change.after - change.before}, and is ${change.difference}`;
    context.addIssue({ code: "custom", path: ["difference"], message });
  })
  .meta({ id: "Change" });

const amountSchema = z.object({ parameters: z.int(), bytes: z.int() });
const changesSchema = z.object({ parameters: changeSchema, bytes: changeSchema });
const groupSchema = z
  .object({ group: z.enum(PARAMETER_GROUPS), ...changesSchema.shape })
  .meta({ id: "GroupChange", description: "Groups that are empty in both models are left out." });
const layerSchema = z.object({
  layer: count.nullable().describe("null: everything outside the blocks"),
  ...changesSchema.shape,
  groups: z.array(groupSchema),
});

const configSchema = z.object({
  n_layer: count,
  n_head: count,
  n_embd: count,
  n_inner: count,
  n_positions: count,
  vocab_size: count,
  activation: z.enum(ACTIVATIONS),
  bias: z.boolean(),
  qk_ranks: z
    .array(count)
    .exactOptional()
    .describe("numbers of q and of k in a head, by layer; n_embd / n_head unless given"),
  vo_ranks: z.array(count).exactOptional().describe("the same of v"),
});

const provenanceSchema = z.object({
  tool,
  command: z.array(z.string()).describe("the command line that made the model"),
  source: z.object({
    path: z.string(),
    parameters: count,
    files: z.array(z.object({ name: z.string(), bytes: count, sha256 })),
  }),
  cuts: z
    .array(z.object({ axis: z.string(), text: z.string().describe("what it took away, in one line") }))
    .default([])
    .describe("what was cut besides Q and K, in this order"),
  history: z.array(z.looseObject({ step: z.string() })).describe("training steps and the like, oldest first"),
  quantization: quantizationSchema.nullable().default(null).describe("the rounding that the model was trained for"),
  notes: z.array(z.string()),
});

const HEAD_STORAGE = ["tied", "copied", "separate"] as const;

const modelSchema = z
  .object({
    source: z.string().describe("as the user named it"),
    variant: z.enum(VARIANTS),
    config: configSchema,
    parameters: count.describe("each counted once"),
    bytes: count.describe("of the parameters, in the precision they are stored in"),
    dtypes: z.array(z.object({ dtype: z.enum(FLOAT_DTYPES), tensors: count, parameters: count, bytes: count })),
    files: z.object({
      names: z.array(z.string()),
      bytes: count.describe("of all files, headers included"),
      brotli: brotli.exactOptional(),
      extra: z
        .object({ tensors: count, bytes: count })
        .describe("stored tensors and padding rows that are no parameters: mask buffers, a copy of the head"),
    }),
    embedding: z
      .object({ parameters: count, bytes: count, percent: z.number() })
      .describe("the token embedding, and its share of all parameters"),
    head: z
      .object({ storage: z.enum(HEAD_STORAGE), parameters: count, bytes: count })
      .describe("tied: stored once, as the embedding; copied: the same matrix is in the file twice; separate: its own"),
    notes: z.array(z.string()).describe("what was normalised, dropped or assumed when it was opened"),
    provenance: provenanceSchema.nullable().describe("from nfc.json"),
  })
  .meta({ id: "Model" });

const error = z.number().nonnegative();
const spread = { min: error, median: error, max: error };
const tieSchema = z
  .object({
    strategy: z.string(),
    calibration: z.object({ file: z.string(), sha256, tokens: count }).nullable(),
    ...spread,
    layers: z.array(z.object({ layer: count, ...spread, errors: z.array(error).describe("by head") })),
  })
  .describe("relative errors of the bilinear forms of the heads of `after`: of their tie, or of their low rank");

const perplexity = z.number().positive().nullable();
const qualitySchema = z.object({
  file: z.string(),
  sha256: sha256.nullable(),
  tokens: count,
  before: perplexity,
  after: perplexity,
  kl: z.number().nullable().describe("mean KL(before || after) of a token, in nats"),
  agreement: z.number().min(0).max(1).nullable().describe("share of tokens whose most likely successor is the same"),
});

const scoreSchema = z
  .object({
    mean: z.number(),
    spread: z.number().nonnegative().nullable().describe("sample standard deviation; null of one seed"),
    seeds: z.int().positive(),
  })
  .meta({ id: "Score" });

const taskSchema = z.object({
  task: z.string().describe("of GLUE, such as sst2"),
  metric: z.string().describe("the task's own: accuracy, matthews, pearson"),
  before: scoreSchema.nullable(),
  after: scoreSchema.nullable(),
});

const exportSchema = z
  .object({
    source: z.string().describe("the folder, as the user named it"),
    variant: z.enum(VARIANTS),
    parameters: count,
    files: z.array(
      z.object({
        precision: z.enum(PRECISIONS),
        file: z.string(),
        bytes: count.describe("with its external data"),
        brotli: brotli.exactOptional(),
        ratio: z.number().describe("bytes / (4 * parameters): of the weights in float32"),
        quality: z
          .object({
            file: z.string(),
            sha256,
            tokens: count,
            float32: perplexity.describe("perplexity of the float32 model"),
            perplexity: z.number().positive(),
            kl: z.number().nullable().describe("mean KL(float32 || file) of a token, in nats"),
            agreement: z.number().min(0).max(1).nullable(),
            logitError: z.number().nonnegative().nullable(),
          })
          .nullable()
          .describe("what nfc.json recorded"),
      }),
    ),
    others: z
      .object({ names: z.array(z.string()), bytes: count, brotli })
      .exactOptional()
      .describe("what a browser downloads beside one of the files"),
  })
  .meta({ id: "Export" });

const breakdownSchema = z
  .object({
    tying: z
      .object({ ...amountSchema.shape, percent: z.number(), formula: z.string() })
      .nullable()
      .describe("L(C^2 + C) parameters; null when the models do not differ by tying Q and K of the same shapes"),
    heads: z
      .object({ ...amountSchema.shape, formula: z.string().nullable() })
      .nullable()
      .default(null)
      .describe("what ranks of q, k and v save, less what forms A add; null where neither differs in the same shapes"),
    noise: amountSchema,
    rest: amountSchema,
  })
  .describe("the difference of the totals = tying + heads + noise + rest");

/**
 * The zod schema of a report. Unknown keys are dropped, so that later versions may add some; sums and differences are
 * checked. JSON Schema (which cannot say the latter): schema/nfc-report-1.schema.json.
 */
export const reportSchema = z
  .object({
    format: z.literal(REPORT_FORMAT),
    tool,
    title: z.string().nullable(),
    before: modelSchema,
    after: modelSchema,
    total: changesSchema,
    groups: z.array(groupSchema),
    layers: z.array(layerSchema),
    breakdown: breakdownSchema,
    tie: tieSchema.nullable(),
    perplexity: z.array(qualitySchema),
    tasks: z
      .array(taskSchema)
      .default([])
      .describe("scores on development sets: of a classifier, or of the model once fine-tuned on each task"),
    exports: z.array(exportSchema).default([]).describe("ONNX files of either model, or of others"),
    findings: z.array(z.object({ code: z.string(), text: z.string() })).describe("what a reader should not overlook"),
  })
  .superRefine(checkSums);

export type Report = z.infer<typeof reportSchema>;
export type Change = z.infer<typeof changeSchema>;
export type GroupChange = z.infer<typeof groupSchema>;
export type LayerChange = z.infer<typeof layerSchema>;
export type ModelSummary = z.infer<typeof modelSchema>;
export type TieSummary = z.infer<typeof tieSchema>;
export type Perplexity = z.infer<typeof qualitySchema>;
export type ReportedScore = z.infer<typeof scoreSchema>;
export type TaskScores = z.infer<typeof taskSchema>;
export type ExportSummary = z.infer<typeof exportSchema>;
export type Finding = Report["findings"][number];
export type Amount = z.infer<typeof amountSchema>;

type Sums = Pick<z.infer<typeof reportSchema>, "total" | "groups" | "layers" | "before" | "after">;

/** Groups and layers must each add up to the totals, and the totals be those of the models. */
function checkSums(report: Sums, context: z.RefinementCtx): void {
  for (const unit of ["parameters", "bytes"] as const) {
    for (const side of ["before", "after"] as const) {
      const total = report.total[unit][side];
      const expect = (path: string[], sum: number) => {
        if (sum === total) return;
        context.addIssue({
          code: "custom",
          path,
          message: `${unit} ${side}: ${sum}, but total.${unit}.${side} is ${total}`,
        });
      };
      expect(["groups"], sumOf(report.groups, unit, side));
      expect(["layers"], sumOf(report.layers, unit, side));
      expect([side, unit], report[side][unit]);
    }
  }
}

function sumOf(rows: Sums["groups"] | Sums["layers"], unit: "parameters" | "bytes", side: "before" | "after"): number {
  return rows.reduce((sum, row) => sum + row[unit][side], 0);
}

/**
 * Checks the content of a report file.
 * @throws NfcError `unsupported` for another version of the format, `invalid-file` that names the key otherwise
 */
export function parseReport(raw: unknown, file: string): Report {
  refuseOtherVersion(raw, file, REPORT_FORMAT, "read it with the version of nfc that wrote it, or a newer one");
  const hint = 'write it again with "nfc report --json"; the format is in schema/nfc-report-1.schema.json';
  return parseJsonWith(reportSchema, raw, file, hint);
}

/** The text of a report file. */
export function formatReport(report: Report): string {
  return `${JSON.stringify(report, null, 2)}\n`;
}
