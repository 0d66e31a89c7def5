// Trains a model of any variant from random weights.
import { type FreshOptions, makeFreshModel } from "./fresh-model.ts";
import { type TrainOptions, type TrainResult, train } from "./train.ts";

/** `settings.seed` decides the weights as well as the windows. */
export interface PretrainOptions extends Omit<FreshOptions, "seed">, Omit<TrainOptions, "teacher" | "task"> {}

/** @throws NfcError as `makeFreshModel` and `train` */
export async function pretrain(options: PretrainOptions): Promise<TrainResult> {
  const { config, variant, tokenizerFolder, ...rest } = options;
  const model = await makeFreshModel({ config, variant, tokenizerFolder, seed: rest.settings?.seed ?? 0 });
  return train(model, { ...rest, task: "pretrain" });
}
