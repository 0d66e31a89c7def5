// Measures models that cuts have made, in memory: their size, their perplexity, and their divergence from the source.
import { join } from "node:path";
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { type KeptIds, readVocabularyCut } from "../../checkpoint/kept-ids.ts";
import { selectTokens } from "../../checkpoint/select-tokens.ts";
import { makeTokenSplitter } from "../../checkpoint/token-splitter.ts";
import { makeNotFiniteError, NfcError } from "../../errors.ts";
import type { Device } from "../../graph/session.ts";
import { openScorer } from "../../inference/score/evaluate.ts";
import type { ModelConfig } from "../../model/config.ts";
import { countExportBytes } from "../../model/export-size.ts";
import { countParameters } from "../../model/parameters.ts";
import { computeStandardError } from "../../numeric/standard-error.ts";
import { type CutSettings, makeSmaller } from "../make-smaller.ts";
import { TensorScratch } from "../tensor-scratch.ts";
import type { PlanMeasurement } from "./plan-file.ts";
import type { PlanTexts } from "./plan-text.ts";
import { type ReadText, type Stretch, StretchSums } from "./stretches.ts";

/** The tensors of the model that is measured, while it is. */
export const TENSORS_FILE = "tensors";

export interface MeterOptions {
  texts: PlanTexts;
  /** Where those tensors are kept. */
  folder: string;
  device?: Device | undefined;
  threads?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** What is measured of a model; which cuts made it is the caller's knowledge. */
export type Measured = Omit<PlanMeasurement, "cuts">;

/** What a text costs, in nats for a token of the source: as a whole, and window by window of the source. */
interface Losses {
  nll: number;
  stretches: readonly Pick<Stretch, "nll">[];
}

/** The same of a model and of the reference beside it. */
interface ComparedLosses extends Losses {
  against: number;
  /** KL(reference ‖ model) */
  kl: number;
  stretches: readonly Stretch[];
}

/** Measures models on the held-out text, against the source that they were made of. */
export class Meter {
  private readonly source: Checkpoint;
  private readonly options: MeterOptions;
  /** Once they are needed. */
  private sourceLosses: Losses | undefined;

  constructor(source: Checkpoint, options: MeterOptions) {
    this.source = source;
    this.options = options;
  }

  /** Measures the source itself: without loss. */
  async measureSource(): Promise<Measured> {
    const started = performance.now();
    const { nll } = await this.scoreSource();
    const zero = { error: 0, kl: 0, klError: 0 };
    return { ...describeModel(this.source.config, nll), ...zero, seconds: countSeconds(started) };
  }

  /** Cuts the source by `settings` and measures what it gives. */
  async measureCut(settings: CutSettings): Promise<Measured> {
    const started = performance.now();
    const { texts, folder, device, threads, signal } = this.options;
    const scratch = await TensorScratch.create(join(folder, TENSORS_FILE));
    try {
      const tools = { scratch, text: texts.fitted, device, threads, signal };
      const { model, finish } = await makeSmaller(this.source, settings, tools);
      const kept = readVocabularyCut(await finish(), this.source.source)?.kept ?? null;
      return { ...(await this.compare(model, kept)), seconds: countSeconds(started) };
    } finally {
      await scratch.remove();
    }
  }

  /**
   * A model of fewer tokens is compared on the same bytes. Its divergence is what the source loses by giving its
   * probabilities to the kept tokens alone, and KL(that source ‖ model).
   * @param kept the tokens of the model; null for all
   */
  private async compare(model: Checkpoint, kept: KeptIds | null): Promise<Omit<Measured, "seconds">> {
    const reference = kept ? selectTokens(this.source, kept) : this.source;
    const losses = await this.score(model, reference, kept ? this.split(model, kept) : this.readWhole());
    const source = kept ? await this.scoreSource() : takeReference(losses);
    const windows = losses.stretches.map(({ weight, nll, against, kl }, i) => {
      const whole = source.stretches[i]?.nll as number;
      return { weight, loss: nll - whole, kl: against - whole + kl };
    });
    type Read = (window: (typeof windows)[number]) => number;
    const errorOf = (read: Read) => (windows.length < 2 ? null : computeStandardError(windows, read));
    return {
      ...describeModel(model.config, losses.nll),
      error: errorOf(({ loss }) => loss),
      kl: losses.against - source.nll + losses.kl,
      klError: errorOf(({ kl }) => kl),
    };
  }

  private async scoreSource(): Promise<Losses> {
    this.sourceLosses ??= await this.score(this.source, undefined, this.readWhole());
    return this.sourceLosses;
  }

  private readWhole(): ReadText {
    const ids = this.options.texts.heldOut;
    return { ids, places: ids.map((_, place) => place) };
  }

  /** The text in the tokens that a model has kept. */
  private split({ companions }: Checkpoint, kept: KeptIds): ReadText {
    const { heldOut, vocabulary } = this.options.texts;
    const file = companions?.get("tokenizer.json");
    if (!vocabulary || file === undefined) throw new Error("a vocabulary was cut that the plan does not know");
    const split = makeTokenSplitter(vocabulary.counted.tokenizer.definition, file, kept);
    const parts = heldOut.map(split);
    return { ids: parts.flat(), places: parts.flatMap((ids, place) => ids.map(() => place)) };
  }

  private async score(model: Checkpoint, reference: Checkpoint | undefined, text: ReadText): Promise<ComparedLosses> {
    const { texts, device, threads, signal } = this.options;
    const [count, { length }] = [texts.heldOut.length, texts.record.heldOut];
    const sums = new StretchSums(text, { count, length });
    const scorer = await openScorer(model, { against: reference, device, threads });
    try {
      const { nll, against } = await scorer.score({
        tokens: (async function* () {
          yield text.ids;
        })(),
        length,
        onWindow: (window) => sums.add(window),
        signal,
      });
      const rate = text.ids.length / count; // tokens of the model for each of the source
      const [other, kl] = [against?.nll ?? nll, against?.kl ?? 0];
      if (!Number.isFinite(kl))
        throw makeNotFiniteError(`${this.source.source}: the loss on the held-out text is not finite`);
      return { nll: nll * rate, against: other * rate, kl: kl * rate, stretches: sums.list() };
    } finally {
      await scorer.close();
    }
  }
}

/** The reference's own losses. */
function takeReference({ against, stretches }: ComparedLosses): Losses {
  return { nll: against, stretches: stretches.map((stretch) => ({ nll: stretch.against })) };
}

const countSeconds = (started: number) => (performance.now() - started) / 1000;

function describeModel(config: ModelConfig, nll: number): Pick<Measured, "parameters" | "bytes" | "perplexity"> {
  const perplexity = Math.min(Math.exp(nll), Number.MAX_VALUE); // JSON has no infinity
  return { parameters: countParameters(config), bytes: countBytes(config), perplexity };
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
