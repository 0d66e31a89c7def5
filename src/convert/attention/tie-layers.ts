// Ties Q and K of all layers in the background, along the model's hidden states where there is text.

import { type Checkpoint, requireTensor } from "../../checkpoint/checkpoint.ts";
import { deriveCheckpoint, makeTensor, type TensorOrigin } from "../../checkpoint/derived.ts";
import { countElements } from "../../formats/dtype.ts";
import type { ModelConfig } from "../../model/config.ts";
import { findParameterKind, isNoiseParameter, type ParameterSpec } from "../../model/parameters.ts";
import { hasDistanceMean, VARIANT_TRAITS, type Variant } from "../../model/variants.ts";
import { DEFAULT_NOISE_STD } from "../convert-options.ts";
import type { Cut, CutTools } from "../cut.ts";
import type { Calibration } from "../statistics/calibration.ts";
import { runLayers } from "../statistics/layer-run.ts";
import { needsTieText } from "./attention-options.ts";
import type { TieStrategy } from "./tie.ts";
import { TiePool } from "./tie-pool.ts";
import { makeTiedTensor, readProjections } from "./tied-attention.ts";

export interface TieSettings {
  variant: Variant;
  strategy: TieStrategy;
  /** σ of fresh noise. */
  noiseStd?: number | undefined;
}

/** The part of a layer's tie that stays in memory; S lies in the scratch file. */
interface TiedLayer {
  errors: number[];
  /** Error of each head in low-rank attention of as many parameters. */
  lowRankErrors: number[];
  noiseMean: Float32Array | null;
}

/**
 * The model with Q and K of every head tied (the mathematics: `tie-head.ts`). Layers are tied one after another, because
 * hidden states flow through them, and the heads of a layer are spread over threads.
 */
export function tieLayers(checkpoint: Checkpoint, settings: TieSettings, tools: CutTools): Cut {
  const config: ModelConfig = { ...checkpoint.config, variant: settings.variant };
  const text = needsTieText(settings) ? tools.text : null;
  const pool = new TiePool({ threads: tools.threads });
  const work = (layer: number, run: Calibration | null) => tieOne(checkpoint, settings, layer, { tools, pool, run });
  const { layers, settled } = runLayers(checkpoint, { phase: "tying", work }, { ...tools, text });
  const closed = settled.then(() => pool.close());
  return {
    model: deriveCheckpoint(checkpoint, config, (parameter) =>
      findOrigin(checkpoint, parameter, { settings, tools, layers }),
    ),
    async finish() {
      await closed;
      const tied = await Promise.all(layers);
      const { strategy } = settings;
      const errors = tied.map((layer) => layer.errors);
      const lowRankErrors = tied.map((layer) => layer.lowRankErrors);
      return { tie: { strategy, calibration: text?.record ?? null, errors, lowRankErrors } };
    },
  };
}

interface Making {
  settings: TieSettings;
  tools: CutTools;
  /** Each layer, once it is tied. */
  layers: readonly Promise<TiedLayer>[];
}

function findOrigin(
  checkpoint: Checkpoint,
  { name, shape, layer }: ParameterSpec,
  { settings: { noiseStd = DEFAULT_NOISE_STD }, tools: { scratch, dtype }, layers }: Making,
): TensorOrigin {
  const tied = layer === null ? undefined : layers[layer];
  if (isNoiseParameter(name)) {
    const size = countElements(shape);
    return makeTensor(dtype ?? "F32", async () =>
      findParameterKind(name) === "noise mean"
        ? ((await tied)?.noiseMean ?? new Float32Array(size))
        : new Float32Array(size).fill(Math.log(noiseStd)),
    );
  }
  const kind = findParameterKind(name);
  if (kind !== "attention input" && kind !== "attention form") return name;
  const readS = async () => {
    await tied;
    return scratch.read(name);
  };
  if (kind === "attention form")
    return makeTensor(dtype ?? requireTensor(checkpoint, name.replace(/pair$/, "c_attn.weight")).dtype, readS);
  return makeTiedTensor(checkpoint, requireTensor(checkpoint, name), readS, dtype);
}

/** Ties one layer; S goes to the scratch file. */
async function tieOne(
  checkpoint: Checkpoint,
  { strategy, variant }: TieSettings,
  layer: number,
  { tools: { scratch, signal }, pool, run }: { tools: CutTools; pool: TiePool; run: Calibration | null },
): Promise<TiedLayer> {
  const { n_embd, n_head } = checkpoint.config;
  const fitsMean = run !== null && hasDistanceMean(variant);
  const statistics = (await run?.inputStatistics(layer, { keep: fitsMean })) ?? null;
  const { inputs, keyMoments, queryMoments, trust } = (strategy === "calibrated" ? statistics : null) ?? {
    inputs: null,
  };
  const projections = await readProjections(checkpoint, layer);
  const { paired } = VARIANT_TRAITS[variant];
  const input = { n_embd, n_head, ...projections, inputs, keyMoments, queryMoments, trust, strategy, paired };
  const tie = await pool.tie(input, { signal });
  await scratch.put(`h.${layer}.attn.c_attn.weight`, tie.weight);
  if (tie.bias) await scratch.put(`h.${layer}.attn.c_attn.bias`, tie.bias);
  if (tie.pair) await scratch.put(`h.${layer}.attn.pair`, tie.pair);
  const noiseMean = fitsMean ? await run.distanceMean(layer, tie) : null;
  return { errors: tie.errors, lowRankErrors: tie.lowRankErrors, noiseMean };
}
