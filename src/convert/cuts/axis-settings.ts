// What a user may ask of the cuts of layers and MLPs, and the checks of it.
import { NfcError } from "../../errors.ts";
import type { ModelConfig } from "../../model/config.ts";

/** How many layers stay, or which, by their numbers from 0. */
export type LayerSettings = number | readonly number[];

/** @throws NfcError "usage" for layers that the model does not have, that are named twice, or that are all of them */
export function checkLayers(layers: LayerSettings, { n_layer }: Pick<ModelConfig, "n_layer">): void {
  const refuse = (fact: string): never => {
    throw new NfcError("usage", `--layers: ${fact}`, {
      hint: `give how many of the ${n_layer} layers stay, or their numbers, such as 0,1,3-5`,
    });
  };
  const count = typeof layers === "number" ? layers : layers.length;
  const broken = [layers].flat().find((number) => !Number.isInteger(number));
  if (broken !== undefined) refuse(`${broken} is no whole number`);
  if (typeof layers !== "number") {
    const unknown = layers.find((layer) => layer < 0 || layer >= n_layer);
    if (unknown !== undefined) refuse(`there is no layer ${unknown}: the model has 0 to ${n_layer - 1}`);
    const twice = layers.find((layer, i) => layers.indexOf(layer) !== i);
    if (twice !== undefined) refuse(`${twice} is named twice`);
  }
  if (count < 1) refuse("a model needs one at least");
  if (count >= n_layer) refuse(`the model has ${n_layer}, so that ${count} would cut none`);
}

/** Hidden units that stay in each MLP, or the share of them that does. */
export type MlpSettings = { units: number } | { share: number };

/** Blocks of quantized weights are of 32 inputs, so that widths of a multiple keep them whole. */
export const BLOCK = 32;

/**
 * The n_inner that settings ask for; a share as `roundShare` has it.
 * @throws NfcError "usage" for widths that cut nothing or everything
 */
export function resolveMlpUnits(settings: MlpSettings, { n_inner }: Pick<ModelConfig, "n_inner">): number {
  const units = "units" in settings ? settings.units : roundShare(settings.share, n_inner);
  if (Number.isInteger(units) && units >= 1 && units < n_inner) return units;
  const rounded =
    "share" in settings ? ` (a share is rounded${units < BLOCK ? "" : ` to a multiple of ${BLOCK}`})` : "";
  const whole = units >= n_inner ? `the MLPs have ${n_inner} hidden units` : "hidden units are whole numbers";
  const fact = units < 1 ? "an MLP needs one hidden unit at least" : whole;
  throw new NfcError("usage", `--mlp: ${fact}, so that ${units} cannot stay${rounded}`, {
    hint: n_inner === 1 ? "leave it out" : `give a number from 1 to ${n_inner - 1}, or another share`,
  });
}

/** @throws NfcError "usage" where the text has no more positions than units stay: a fit to it would say nothing */
export function checkMlpText(
  { record: { file, tokens } }: { record: { file: string; tokens: number } },
  units: number,
): void {
  if (tokens > units) return;
  throw new NfcError(
    "usage",
    `${file}: calibration too short for the ridge: ${tokens} tokens for ${units} hidden units`,
    { hint: `give longer text, and --calibration-tokens of ${4 * units} or more` },
  );
}

/**
 * The share of `n_inner` hidden units: the nearest multiple of 32, where the MLP has that many units and a share below 1
 * would not come out as all of them.
 */
export function roundShare(share: number, n_inner: number): number {
  const multiple = BLOCK * Math.round((share * n_inner) / BLOCK);
  return multiple < BLOCK || multiple >= n_inner ? Math.round(share * n_inner) : multiple;
}
