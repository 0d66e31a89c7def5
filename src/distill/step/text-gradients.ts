// Makes the gradients of micro-batches of text with the host's parameters: teacher, noise, training graph, prior.
import type { SessionOptions } from "../../graph/session.ts";
import type { ModelConfig } from "../../model/config.ts";
import { VARIANT_TRAITS } from "../../model/variants.ts";
import type { Batch } from "../data/windows.ts";
import type { TeacherSource } from "../teacher/teacher.ts";
import type { TrainSettings } from "../train-settings.ts";
import { makeStepNoise } from "./noise.ts";
import { NoisePrior } from "./noise-prior.ts";
import type { ParameterStore } from "./parameter-store.ts";
import { isPriorOnly } from "./step-graph.ts";
import { openTrainingStep, type StepLosses } from "./training-step.ts";

export interface TextGradientOptions {
  config: ModelConfig;
  settings: TrainSettings;
  teacher: TeacherSource | null;
  session: SessionOptions;
}

export interface TextGradients {
  /**
   * Computes the gradients of a micro-batch into the state's; gives its losses.
   * @param draw of the noise, counted over the run
   * @param scale of the gradients, of which the weights have it already
   */
  run(batch: Batch, weights: StepLosses, draw: number, scale: number): Promise<StepLosses>;
  /**
   * Ends a step: the noise prior's gradient is in the totals. Gives its value in nats; null for a model without noise.
   * @param scale by which the totals are larger than the gradients
   */
  addPrior(scale: number): number | null;
  close(): Promise<void>;
}

export async function openTextGradients(
  store: ParameterStore,
  { config, settings, teacher, session }: TextGradientOptions,
): Promise<TextGradients> {
  const { batchSize: batch, length, temperature, noiseKl } = settings;
  const noise = makeStepNoise(config, settings);
  const trained = new Set(store.trained);
  const options = { config, batch, length, trained, noise: noise.mode, teacher: teacher?.input ?? null, temperature };
  const step = await openTrainingStep(options, store, session);
  const prior = VARIANT_TRAITS[config.variant].noise ? new NoisePrior(store) : null;
  const priorOnly = store.trained.filter((name) => isPriorOnly(name, config, noise.mode));
  return {
    async run({ inputs, labels, windows }, weights, draw) {
      const feeds = { ...(await noise.feeds(draw)), ...(await teacher?.feeds(inputs, windows)) };
      return step.run({ inputs, labels }, weights, feeds);
    },
    addPrior(scale) {
      for (const name of priorOnly) store.slot(name).total.fill(0);
      prior?.addGradient(noiseKl * scale);
      return prior ? prior.value() : null;
    },
    async close() {
      await step.close();
      await teacher?.close();
    },
  };
}
