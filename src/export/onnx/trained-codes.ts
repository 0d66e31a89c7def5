// Models that were trained for the rounding of a precision: which files have the codes that were trained, and which not.
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { NfcError } from "../../errors.ts";
import type { Precision } from "../../model/precision.ts";
import {
  chooseBlockBits,
  describeRounding,
  findCodes,
  type Quantization,
  type QuantizationOptions,
  resolveQuantization,
  roundsWeights,
} from "../../model/quantization.ts";

type Trained = Pick<Checkpoint, "record">;

/** The choices of an export: those given, then those that the model was trained with. @throws NfcError as `resolveQuantization` */
export function resolveExport(
  { config, record }: Pick<Checkpoint, "config" | "record">,
  precisions: readonly Precision[],
  given: QuantizationOptions = {},
): Quantization {
  const { block, symmetric, embeddingBits, bits } = record?.quantization ?? {};
  return resolveQuantization(config.n_embd, precisions, {
    ...given,
    mixedBits: given.mixedBits ?? (bits && new Map(Object.entries(bits))),
    block: given.block ?? block,
    symmetric: given.symmetric ?? symmetric,
    embeddingBits: given.embeddingBits ?? embeddingBits,
  });
}

/** Whether a file of this precision has the codes that the model was trained with, as its weights are on their grid. */
export function hasTrainedCodes({ record }: Trained, precision: Precision, quantization: Quantization): boolean {
  const trained = record?.quantization;
  if (!trained || findCodes(precision) !== trained.precision) return false;
  if (precision === "int8") return !quantization.reduceRange;
  const bits = (embeddingBits: Quantization["embeddingBits"]) =>
    chooseBlockBits(precision, { ...quantization, embeddingBits }, "wte.weight");
  const sameBlocks = trained.block === quantization.block && trained.symmetric === quantization.symmetric;
  const sameBits = Object.entries(trained.bits ?? {}).every(([name, own]) => quantization.mixedBits.get(name) === own);
  return sameBlocks && sameBits && bits(quantization.embeddingBits) === bits(trained.embeddingBits ?? null);
}

/** One line for each file that rounds the weights of a model that was trained for a rounding; none for other models. */
export function explainTrainedCodes(
  checkpoint: Trained,
  precisions: readonly Precision[],
  quantization: Quantization,
): string[] {
  const trained = checkpoint.record?.quantization;
  if (!trained) return [];
  return precisions.filter(roundsWeights).map((precision) => {
    return hasTrainedCodes(checkpoint, precision, quantization)
      ? `${precision}: the codes and scales that the model was trained with`
      : `${precision}: not the codes that the model was trained for, which are ${describeRounding(trained)}`;
  });
}

/** @throws NfcError "invalid-file" always */
export function refuseOffGrid({ source }: Pick<Checkpoint, "source">, name: string): never {
  throw new NfcError("invalid-file", `${source}: ${name} is not rounded as nfc.json says that it was trained`, {
    hint: 'its weights have changed since: remove "quantization" from nfc.json, and export again',
  });
}
