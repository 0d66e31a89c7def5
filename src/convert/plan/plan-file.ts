// The file of a plan: its schema, how it is read and written, and whether it is of a given model and text.
import { z } from "zod";
import { NfcError } from "../../errors.ts";
import { fileExists } from "../../io/exists.ts";
import { parseJsonWith, readJsonFile, refuseOtherVersion } from "../../io/json.ts";
import { writeFileAtomic } from "../../io/staging.ts";
import { TOOL } from "../../version.ts";

const PLAN_FORMAT = "nfc-plan/1";

/** A plan has some hundred lines of numbers; a larger file was not written by nfc. */
const MAX_PLAN_BYTES = 16 * 2 ** 20;

const count = z.int().nonnegative();
const whole = z.int().positive();
const several = z.int().min(2);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, "must be 64 hexadecimal digits");
/** What is left of each axis that is cut: {"qk-rank": 16, "mlp": 768}. */
const cutsSchema = z.record(z.string(), whole);
const textSchema = z.object({
  files: z.array(z.string()).min(1),
  /** Of the file; of several, of the list of their hashes. */
  sha256,
  /** 1, or m: the calibration has every m-th window of a sample of one text, the held-out text has the others. */
  every: whole,
  tokens: several,
  /** Tokens that were asked for: the same number of the same text gives the same windows. Missing where it is `tokens`. */
  asked: several.exactOptional(),
  /** Tokens of a window. */
  length: several,
  /** Field of .jsonl lines. */
  field: z.string().exactOptional(),
});

/** The text by whose tokens the vocabulary is cut. */
const vocabularySchema = z.object({
  files: z.array(z.string()).min(1),
  /** As of the other texts. */
  sha256,
  /** Tokens of the source, those that stay where all stay that the text uses, and those that must in any case. */
  from: whole,
  used: whole,
  least: whole,
  field: z.string().exactOptional(),
});

const measurementSchema = z.object({
  cuts: cutsSchema,
  parameters: whole,
  /** Of the ONNX files that an export would write; null where the precision does not suit the model's width. */
  bytes: z.object({ fp32: count, int8: count, q4: count.nullable() }),
  /** exp(negative log-likelihood of the held-out text / its number of tokens), whose tokens are the source's for all models. */
  perplexity: z.number().positive(),
  /** Standard error of ln(perplexity / perplexity of the source), from the differences of the windows; null for one window. */
  error: z.number().nonnegative().nullable(),
  /**
   * Mean KL(source ‖ model) of a token in nats, and its standard error. Where the vocabulary is cut: what the source loses
   * by giving its probabilities to the kept tokens alone, and KL(that source ‖ model), for a token of the source.
   */
  kl: z.number(),
  klError: z.number().nonnegative().nullable(),
  /** Seconds that cutting and measuring took. */
  seconds: z.number().nonnegative(),
});

/** The schema of a plan file. Unknown keys are dropped, so that later versions may add some. */
export const planSchema = z.object({
  format: z.literal(PLAN_FORMAT),
  tool: z.object({ name: z.string(), version: z.string() }),
  source: z.object({
    path: z.string(),
    files: z.array(z.object({ name: z.string(), bytes: count, sha256 })),
    parameters: count,
  }),
  /** The text that cuts are fitted to, and the text that models are measured on. */
  calibration: textSchema,
  heldOut: textSchema,
  /** Where the vocabulary is an axis. */
  vocabulary: vocabularySchema.exactOptional(),
  /** Values that are tried of each axis, the weakest cut first. */
  axes: z.array(z.object({ name: z.string(), values: z.array(whole) })),
  /** The share of the source's parameters at which the path ends. */
  floor: z.number().min(0).max(1),
  /** Whether the path has reached its end. */
  complete: z.boolean(),
  /** Every model that was measured: the source first, then the axes alone, then candidates of the path. */
  measurements: z.array(measurementSchema),
  /** The path: each step's cut, and the place of its model among the measurements. */
  steps: z.array(z.object({ axis: z.string(), value: whole, measurement: count })),
});

export type Plan = z.infer<typeof planSchema>;
export type PlanMeasurement = z.infer<typeof measurementSchema>;
export type PlanText = z.infer<typeof textSchema>;
export type PlanVocabulary = z.infer<typeof vocabularySchema>;

/** @throws NfcError "not-found", "io"; "unsupported" for another version; "invalid-file" for anything that does not fit */
export async function readPlan(path: string): Promise<Plan> {
  const hint = "give a file that nfc plan wrote";
  const value = await readJsonFile(path, { maxBytes: MAX_PLAN_BYTES, hint });
  refuseOtherVersion(value, path, PLAN_FORMAT, "use the version of nfc that wrote the plan, or a newer one");
  const plan = parseJsonWith(planSchema, value, path, hint);
  const fault = findFault(plan);
  if (fault !== null) throw new NfcError("invalid-file", `${path}: ${fault}`, { hint });
  return plan;
}

/** What a plan says twice must be the same: the source is the first measurement, and a step's model has its cut. */
function findFault({ measurements, steps }: Plan): string | null {
  if (!measurements[0] || Object.keys(measurements[0].cuts).length > 0)
    return "measurements: the first is not of the source";
  for (const [i, { axis, value, measurement }] of steps.entries()) {
    const cuts = measurements[measurement]?.cuts;
    if (!cuts) return `steps[${i}]: its measurement is missing`;
    if (cuts[axis] !== value) return `steps[${i}]: its measurement is of a model with another cut`;
  }
  return null;
}

export function writePlan(path: string, plan: Plan): Promise<void> {
  return writeFileAtomic(path, `${JSON.stringify(plan, null, 2)}\n`);
}

/** @throws NfcError "mismatch" where new measurements would stand beside those of another version */
export function refuseOtherTool({ tool }: Plan, file: string): void {
  if (tool.version === TOOL.version) return;
  throw new NfcError(
    "mismatch",
    `${file}: the model is not among its measurements, which version ${tool.version} of nfc made`,
    { hint: "make it anew with nfc plan --force, or name another file with --plan" },
  );
}

/** What a plan is about. */
export type PlanSubject = Pick<Plan, "tool" | "source" | "calibration" | "heldOut" | "vocabulary" | "axes" | "floor">;

/**
 * A plan that begins with the measurements of the file at `path`, if there is one and it is of the same model, text and
 * version of nfc; the axes and the end of the path may be others.
 * @throws NfcError "exists" for a file about something else, unless `force` is given and it is a plan
 */
export async function resumePlan(path: string, subject: PlanSubject, force: boolean): Promise<Plan> {
  const fresh: Plan = { format: PLAN_FORMAT, ...subject, complete: false, measurements: [], steps: [] };
  if (!fileExists(path)) return fresh;
  const known = await readKnownPlan(path);
  if (known && isSameSubject(known, subject)) {
    const vocabulary = subject.vocabulary ?? known.vocabulary; // measurements hold for this text alone
    return { ...fresh, ...(vocabulary && { vocabulary }), measurements: known.measurements };
  }
  if (force && known) return fresh;
  const fact = known ? "is the plan of another model, text or version" : "is there, and is not a plan of nfc";
  throw new NfcError("exists", `${path}: ${fact}`, {
    hint: `name another file with -o${known ? ", or replace it with --force" : ""}`,
  });
}

async function readKnownPlan(path: string): Promise<Plan | null> {
  try {
    return await readPlan(path);
  } catch (error) {
    if (error instanceof NfcError && error.code === "invalid-file") return null;
    throw error;
  }
}

/** Whether measurements hold for both: a plan without a text for its vocabulary goes with any. */
function isSameSubject(known: PlanSubject, subject: PlanSubject): boolean {
  const [a, b] = [known, subject].map(({ vocabulary }) => vocabulary && [vocabulary.sha256, vocabulary.field].join());
  return identify(known) === identify(subject) && (a === undefined || b === undefined || a === b);
}

/** What tells a text from another: of the same files, other windows may be taken. */
export function identifyText(text: PlanText): string {
  return JSON.stringify([text.sha256, text.every, text.tokens, text.length, text.field, countAsked(text)]);
}

/** Tokens of a sample that has the text's windows. */
export function countAsked({ asked, tokens }: PlanText): number {
  return asked ?? tokens;
}

/** What measurements depend on besides the cuts. */
function identify({ tool, source, calibration, heldOut }: PlanSubject): string {
  const texts = [calibration, heldOut].map(identifyText);
  return JSON.stringify([tool.name, tool.version, source.files.map((file) => file.sha256), texts]);
}
