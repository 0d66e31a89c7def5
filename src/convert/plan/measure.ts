// Measures a model that cuts have made, in memory: its size, its perplexity, and its divergence from the source.
import { mkdtemp, rmdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { NfcError } from "../../errors.ts";
import type { Device } from "../../graph/session.ts";
import { openScorer } from "../../inference/score/evaluate.ts";
import { withIoErrors } from "../../io/io-error.ts";
import type { ModelConfig } from "../../model/config.ts";
import { countExportBytes } from "../../model/export-size.ts";
import { countParameters } from "../../model/parameters.ts";
import { computeStandardError } from "../../numeric/standard-error.ts";
import { type CutSettings, makeSmaller } from "../make-smaller.ts";
import { TensorScratch } from "../tensor-scratch.ts";
import type { PlanMeasurement } from "./plan-file.ts";
import type { PlanTexts } from "./plan-text.ts";

export interface MeasureOptions {
  texts: PlanTexts;
  device?: Device | undefined;
  threads?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** What is measured of a model; which cuts made it is the caller's knowledge. */
export type Measured = Omit<PlanMeasurement, "cuts">;

/** Cuts the source by `settings` and measures what it gives. */
export async function measureCut(
  source: Checkpoint,
  settings: CutSettings,
  { texts, device, threads, signal }: MeasureOptions,
): Promise<Measured> {
  const started = performance.now();
  const folder = await withIoErrors(tmpdir(), () => mkdtemp(join(tmpdir(), "nfc-plan-")));
  try {
    const scratch = await TensorScratch.create(join(folder, "tensors"));
    try {
      const cut = await makeSmaller(source, settings, { scratch, text: texts.fitted, device, threads, signal });
      await cut.finish();
      return await measureModel(cut.model, source, { texts, device, threads, signal }, started);
    } finally {
      await scratch.remove();
    }
  } finally {
    await withIoErrors(folder, () => rmdir(folder));
  }
}

/** Measures the source itself: without loss. */
export function measureSource(source: Checkpoint, options: MeasureOptions): Promise<Measured> {
  return measureModel(source, source, options, performance.now());
}

async function measureModel(
  model: Checkpoint,
  source: Checkpoint,
  { texts: { heldOut, record }, device, threads, signal }: MeasureOptions,
  started: number,
): Promise<Measured> {
  const windows: { weight: number; kl: number; loss: number }[] = [];
  const scorer = await openScorer(model, { against: source, device, threads });
  try {
    const { perplexity, against } = await scorer.score({
      tokens: (async function* () {
        yield heldOut;
      })(),
      length: record.heldOut.length,
      onWindow: ({ weight, means: { kl, nll, nll_against } }) => windows.push({ weight, kl, loss: nll - nll_against }),
      signal,
    });
    if (Number.isNaN(perplexity) || !Number.isFinite(against?.kl ?? 0))
      throw new NfcError("invalid-file", `${source.source}: the loss on the held-out text is not finite`, {
        hint: "the checkpoint is damaged",
      });
    return {
      parameters: countParameters(model.config),
      bytes: countBytes(model.config),
      perplexity: Math.min(perplexity, Number.MAX_VALUE), // JSON has no infinity
      error: computeStandardError(windows, ({ loss }) => loss),
      kl: against?.kl ?? 0,
      klError: computeStandardError(windows, ({ kl }) => kl),
      seconds: (performance.now() - started) / 1000,
    };
  } finally {
    await scorer.close();
  }
}

/** Null where no block of the precision divides the model's width: such a file cannot be written. */
function countBytes(config: ModelConfig): Measured["bytes"] {
  const [fp32, int8] = [countExportBytes(config, "fp32"), countExportBytes(config, "int8")];
  try {
    return { fp32, int8, q4: countExportBytes(config, "q4") };
  } catch (error) {
    if (error instanceof NfcError && error.code === "unsupported") return { fp32, int8, q4: null };
    throw error;
  }
}
