// Cuts layers out of a model; those that stay are copied under their new numbers.
import { type Checkpoint, requireTensor } from "../../checkpoint/checkpoint.ts";
import { deriveCheckpoint, makeTensor, type TensorOrigin } from "../../checkpoint/derived.ts";
import { computeScoreScale } from "../../model/attention.ts";
import type { ModelConfig } from "../../model/config.ts";
import { countAttentionColumns, listAttentionParts } from "../../model/head-widths.ts";
import { findParameterKind } from "../../model/parameters.ts";
import type { Cut, CutTools } from "../cut.ts";
import { checkLayers, type LayerSettings } from "./axis-settings.ts";
import { chooseLayers, spaceLayers } from "./layers-choice.ts";

export interface LayersCut extends Cut {
  /** The layers that stay, by their numbers in the source, ascending. */
  kept: readonly number[];
}

/**
 * The model of the layers that stay. With a number of them, those go whose absence costs least on the calibration text;
 * without text, those that stay are spaced evenly.
 * @throws NfcError "usage" as `checkLayers`
 */
export async function cutLayers(checkpoint: Checkpoint, layers: LayerSettings, tools: CutTools): Promise<LayersCut> {
  const { config } = checkpoint;
  checkLayers(layers, config);
  const { kept, ...choice } = await chooseKept(checkpoint, layers, tools);
  return {
    kept,
    model: deriveCheckpoint(checkpoint, keepLayers(config, kept), (name) => findOrigin(checkpoint, name, kept, tools)),
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

function keepLayers(config: ModelConfig, kept: readonly number[]): ModelConfig {
  const pickRanks = (ranks: readonly number[]) => kept.map((layer) => ranks[layer] as number);
  return {
    ...config,
    n_layer: kept.length,
    ...(config.qk_ranks && { qk_ranks: pickRanks(config.qk_ranks) }),
    ...(config.vo_ranks && { vo_ranks: pickRanks(config.vo_ranks) }),
  };
}

/** A layer's tensor under its old number; c_attn is made anew where the scores depend on the layer's number. */
function findOrigin(checkpoint: Checkpoint, name: string, kept: readonly number[], { dtype }: CutTools): TensorOrigin {
  const [, at, rest] = /^h\.(\d+)\.(.+)$/.exec(name) ?? [];
  if (at === undefined) return name;
  const layer = kept[Number(at)] as number;
  const source = `h.${layer}.${rest}`;
  const { config } = checkpoint;
  const factor = computeScoreScale(config, layer) / computeScoreScale(config, Number(at));
  if (factor === 1 || findParameterKind(name) !== "attention input") return source;
  const read = async () => scaleQueries(await checkpoint.readF32(source), config, layer, factor);
  return makeTensor(dtype ?? requireTensor(checkpoint, source).dtype, read);
}

/**
 * Scores of layer l are divided by l + 1 where scale_attn_by_inverse_layer_idx says so. A layer that moves from l to m
 * keeps its scores when its q is multiplied by (m + 1) / (l + 1).
 * @param values of c_attn, whose columns begin with q: changed in place
 */
function scaleQueries(values: Float32Array, config: ModelConfig, layer: number, factor: number): Float32Array {
  const columns = countAttentionColumns(config, layer);
  const [first] = listAttentionParts(config, layer);
  // One projection s that is query and key at once carries the root of the factor.
  const own = first?.part === "qk" ? Math.sqrt(factor) : factor;
  for (let row = 0; row < values.length; row += columns)
    for (let c = row; c < row + (first?.columns ?? 0); c++) values[c] = (values[c] as number) * own;
  return values;
}
