// The flags of nfc convert that cut layers and MLPs.
import { type Command, InvalidArgumentError } from "commander";
import type { LayerSettings, MlpSettings } from "../../../convert/cuts/axis-settings.ts";
import { readPercent } from "../../percent.ts";

export interface AxisFlags {
  layers?: LayerSettings;
  mlp?: MlpSettings;
  repair?: boolean;
}

export function addAxisFlags(command: Command): Command {
  return command
    .option("--layers <n or list>", "how many layers stay, or which: 0,1,3-5", parseLayers)
    .option("--mlp <share or n>", "hidden units that stay in each MLP: 75%, or a number", parseMlp)
    .option("--repair", "refit output weights on the text (default: with --layers or --mlp, where text held out gains)")
    .option("--no-repair", "never do so");
}

export const AXIS_HELP = `
Layers and MLPs: with --calibration those go that the loss on the text misses least, and the rest makes up for
them; without, layers that stay are evenly spaced, and hidden units of small weights go. --variant dense leaves
attention as it is, so that the result is a plain GPT-2.`;

/** Most layers that a list may name: a range must not fill memory. */
const MAX_LISTED = 1024;

/** "4" is a number of layers; "0,1,3-5" a list of them. @throws InvalidArgumentError for anything else */
export function parseLayers(text: string): LayerSettings {
  const refuse = (): never => {
    throw new InvalidArgumentError("not how many layers stay, from 1 on, nor a list such as 0,1,3-5");
  };
  if (/^\d{1,9}$/.test(text)) return Number(text) > 0 ? Number(text) : refuse();
  const layers: number[] = [];
  for (const part of text.split(",")) {
    const [, first, last = first] = /^(\d{1,9})(?:-(\d{1,9}))?$/.exec(part) ?? refuse();
    if (Number(last) < Number(first) || Number(last) - Number(first) + layers.length >= MAX_LISTED) refuse();
    for (let layer = Number(first); layer <= Number(last); layer++) layers.push(layer);
  }
  return layers;
}

/** "75%" is a share, "768" a number of hidden units. @throws InvalidArgumentError for anything else */
export function parseMlp(text: string): MlpSettings {
  const percent = readPercent(text);
  if (percent !== null && percent > 0 && percent < 100) return { share: percent / 100 };
  if (/^\d{1,9}$/.test(text) && Number(text) > 0) return { units: Number(text) };
  throw new InvalidArgumentError("not a share above 0% and below 100%, nor a number of hidden units from 1 on");
}

/** Remarks on cuts that were made without text. */
export function listBlindCuts({ layers, mlp }: AxisFlags): string[] {
  const lines: string[] = [];
  if (typeof layers === "number")
    lines.push("without --calibration the layers that stay are evenly spaced: give text to choose them by the loss");
  if (mlp)
    lines.push("without --calibration hidden units go by their weights, and nothing makes up for them: give text");
  return lines;
}
