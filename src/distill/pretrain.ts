// Trains a model of any variant from random weights.
import { type FreshOptions, makeFreshModel } from "./fresh-model.ts";
import type { TrainOptions, TrainResult } from "./run.ts";
import { train } from "./train.ts";

/** `settings.seed` decides the weights as well as the windows. */
export interface PretrainOptions extends Omit<FreshOptions, "seed">, Omit<TrainOptions, "teacher"> {}

/** @throws NfcError as `makeFreshModel` and `train` */
export async function pretrain(options: PretrainOptions): Promise<TrainResult> {
  const { config, variant, tokenizerFolder, ...rest } = options;
  const settings = { ...rest.settings, task: "pretrain" as const };
  const model = await makeFreshModel({ config, variant, tokenizerFolder, seed: settings.seed ?? 0 });
  return train(model, { ...rest, settings });
}
