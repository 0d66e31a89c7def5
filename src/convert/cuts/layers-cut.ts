// Cuts layers out of a model; those that stay are copied under their new numbers.
import { type Checkpoint, requireTensor } from "../../checkpoint/checkpoint.ts";
import { deriveCheckpoint, makeTensor, type TensorOrigin } from "../../checkpoint/derived.ts";
import { computeScoreScale } from "../../model/attention.ts";
import type { ModelConfig } from "../../model/config.ts";
import { findParameterKind, type ParameterSpec } from "../../model/parameters.ts";
import type { Cut, CutTools } from "../cut.ts";
import { checkLayers, type LayerSettings } from "./axis-settings.ts";
import { chooseLayers, spaceLayers } from "./layers-choice.ts";

export interface LayersCut extends Cut {
  /** The layers that stay, by their numbers in the source, ascending. */
  kept: readonly number[];
}

/**
 * The dense model of the layers that stay. With a number of them, those go whose absence costs least on the calibration text;
 * without text, those that stay are spaced evenly.
 * @throws NfcError "usage" as `checkLayers`
 */
export async function cutLayers(checkpoint: Checkpoint, layers: LayerSettings, tools: CutTools): Promise<LayersCut> {
  const { config } = checkpoint;
  checkLayers(layers, config);
  const { kept, ...choice } = await chooseKept(checkpoint, layers, tools);
  const cut: ModelConfig = { ...config, n_layer: kept.length };
  return {
    kept,
    model: deriveCheckpoint(checkpoint, cut, (parameter) => findOrigin(checkpoint, parameter, kept, tools)),
    finish: async () => ({ cuts: [{ axis: "layers", from: config.n_layer, to: kept.length, kept, ...choice }] }),
  };
}

/** The layers that stay, and what nfc.json says of how they were chosen. */
async function chooseKept(
  checkpoint: Checkpoint,
  layers: LayerSettings,
  tools: CutTools,
): Promise<{ kept: readonly number[]; chosen: string; [fact: string]: unknown }> {
  const { text } = tools;
  if (typeof layers !== "number") return { kept: [...layers].sort((a, b) => a - b), chosen: "listed" };
  if (!text) return { kept: spaceLayers(checkpoint.config.n_layer, layers), chosen: "spaced" };
  const { kept, removed, tokens } = await chooseLayers(checkpoint, layers, text.windows, tools);
  return { kept, chosen: "measured", removed, calibration: { ...text.record, tokens } };
}

/** A layer's tensor under its old number; c_attn is made anew where the scores depend on the layer's number. */
function findOrigin(
  checkpoint: Checkpoint,
  { name, layer }: ParameterSpec,
  kept: readonly number[],
  { dtype }: CutTools,
): TensorOrigin {
  if (layer === null) return name;
  const old = kept[layer] as number;
  const source = name.replace(`h.${layer}.`, `h.${old}.`);
  const { config } = checkpoint;
  const factor = computeScoreScale(config, old) / computeScoreScale(config, layer);
  if (factor === 1 || findParameterKind(name) !== "attention input") return source;
  const read = async () => scaleQueries(await checkpoint.readF32(source), config, factor);
  return makeTensor(dtype ?? requireTensor(checkpoint, source).dtype, read);
}

/**
 * Scores of layer l are divided by l + 1 where scale_attn_by_inverse_layer_idx says so. A layer that moves from l to m
 * keeps its scores when its q is multiplied by (m + 1) / (l + 1).
 * @param values of c_attn, [C, 3C] or [3C], whose columns begin with q: changed in place
 */
function scaleQueries(values: Float32Array, { n_embd: C }: ModelConfig, factor: number): Float32Array {
  for (let row = 0; row < values.length; row += 3 * C)
    for (let c = row; c < row + C; c++) values[c] = (values[c] as number) * factor;
  return values;
}
