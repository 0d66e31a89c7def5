// The bits of each matrix in a run that trains for a mixed file: chosen once on the training text, and kept with the run.
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { mixedBitsSchema } from "../checkpoint/nfc-record.ts";
import type { BlockBits } from "../graph/passes/quantized-blocks.ts";
import { chooseMixedBits, countBudget, planMeasured } from "../inference/mixed-bits.ts";
import { parseJson, parseJsonWith } from "../io/json.ts";
import { resolveQuantization } from "../model/quantization.ts";
import type { LongCall } from "../progress.ts";
import type { TokenRange } from "./data/windows.ts";
import { toQuantization } from "./rounding-settings.ts";
import type { RunIdentity } from "./run-folder.ts";
import type { TrainSettings } from "./train-settings.ts";

/** Bits by the names of the matrices. */
export type MixedBits = ReadonlyMap<string, BlockBits>;

/** The input of a run under which its record has the bits, as JSON. */
export const BITS_INPUT = "bits";

/** The bits among the inputs of a run. @throws NfcError "invalid-file" naming `source` */
export function readBits(inputs: RunIdentity, source: string): MixedBits | undefined {
  const text = inputs[BITS_INPUT];
  if (typeof text !== "string") return undefined;
  return new Map(Object.entries(parseJsonWith(mixedBitsSchema, parseJson(Buffer.from(text), source), source)));
}

interface ChoiceOptions extends LongCall {
  settings: Pick<TrainSettings, "budget" | "block" | "symmetric" | "embeddingBits" | "quantize">;
  /** The text that the run trains on. */
  text: TokenRange;
  threads?: number | undefined;
}

/**
 * The bits of a run that begins, as its inputs have them; none where it trains for no mixed file.
 * @throws NfcError as `chooseMixedBits`
 */
export async function chooseBits(
  student: Checkpoint,
  { settings, text, ...call }: ChoiceOptions,
): Promise<Record<string, string>> {
  const { budget: percent, quantize } = settings;
  if (quantize !== "mixed") return {};
  const quantization = resolveQuantization(student.config.n_embd, [quantize], toQuantization(settings));
  const options = { ...call, quantization, noise: { kind: "mean" } as const };
  const budget = countBudget(student.config, percent / 100, options);
  const bits = await chooseMixedBits(student, await readWindows(text, student), { ...options, budget });
  return { [BITS_INPUT]: JSON.stringify(Object.fromEntries(bits)) };
}

/** The windows that are measured, from all over the text; fewer, or a shorter one, of a short text. */
async function readWindows({ corpus, start, end }: TokenRange, { config }: Checkpoint): Promise<Int32Array[]> {
  const tokens = end - start;
  const { count, length } = planMeasured({ n_positions: Math.min(config.n_positions, tokens) });
  const windows = Math.min(count, Math.floor(tokens / length));
  const step = Math.floor(tokens / windows);
  const reads = Array.from({ length: windows }, (_, i) => corpus.read(start + i * step, length));
  return Promise.all(reads);
}
