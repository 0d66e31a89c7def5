// Ties Q and K of all layers in the background, along the model's hidden states where there is text.

import { type Checkpoint, requireTensor } from "../checkpoint/checkpoint.ts";
import { deriveCheckpoint, makeTensor, type TensorOrigin } from "../checkpoint/derived.ts";
import { NfcError, throwIfAborted } from "../errors.ts";
import { countElements } from "../formats/dtype.ts";
import type { ModelConfig } from "../model/config.ts";
import { findParameterKind, isNoiseParameter } from "../model/parameters.ts";
import { hasDistanceMean, type Variant } from "../model/variants.ts";
import type { Calibration } from "./calibration.ts";
import { DEFAULT_NOISE_STD } from "./convert-options.ts";
import type { Cut, CutTools } from "./cut.ts";
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
  noiseMean: Float32Array | null;
}

/**
 * The model with Q and K of every head tied (the mathematics: `tie-head.ts`). Layers are tied one after another, because
 * hidden states flow through them, and the heads of a layer are spread over threads.
 */
export function tieLayers(checkpoint: Checkpoint, settings: TieSettings, tools: CutTools): Cut {
  const config: ModelConfig = { ...checkpoint.config, variant: settings.variant };
  const text = needsText(settings) ? tools.text : null;
  const { layers, settled } = startTies(checkpoint, settings, { ...tools, text });
  return {
    model: deriveCheckpoint(checkpoint, config, (name, shape) => {
      const layer = Number(name.split(".")[1]);
      return findOrigin(checkpoint, { name, shape }, { settings, tools, layer: layers[layer] ?? null });
    }),
    async finish() {
      await settled;
      const tied = await Promise.all(layers);
      const { strategy } = settings;
      return { tie: { strategy, calibration: text?.record ?? null, errors: tied.map(({ errors }) => errors) } };
    },
  };
}

interface Making {
  settings: TieSettings;
  tools: CutTools;
  /** The layer that a tensor belongs to, once it is tied. */
  layer: Promise<TiedLayer> | null;
}

function findOrigin(
  checkpoint: Checkpoint,
  { name, shape }: { name: string; shape: readonly number[] },
  { settings: { noiseStd = DEFAULT_NOISE_STD }, tools: { scratch, dtype }, layer }: Making,
): TensorOrigin {
  if (isNoiseParameter(name)) {
    const size = countElements(shape);
    return makeTensor(dtype ?? "F32", async () =>
      findParameterKind(name) === "noise mean"
        ? ((await layer)?.noiseMean ?? new Float32Array(size))
        : new Float32Array(size).fill(Math.log(noiseStd)),
    );
  }
  if (findParameterKind(name) !== "attention input") return name;
  const readS = async () => {
    await layer;
    return scratch.read(name);
  };
  return makeTiedTensor(checkpoint, requireTensor(checkpoint, name), readS, dtype);
}

/** Ties that run in the background, one layer after another. */
interface RunningTies {
  /** Each layer, once it is tied; rejected from the first fault on. */
  layers: Promise<TiedLayer>[];
  /** Resolves when nothing runs any more, whether it went well or not. */
  settled: Promise<void>;
}

function startTies(checkpoint: Checkpoint, settings: TieSettings, tools: CutTools): RunningTies {
  const pool = new TiePool({ threads: tools.threads });
  const total = checkpoint.config.n_layer;
  const layers: Promise<TiedLayer>[] = [];
  // Loaded here, so that a tie without text needs no ONNX Runtime.
  const open = async ({ windows }: NonNullable<CutTools["text"]>) => {
    const { Calibration } = await import("./calibration.ts");
    return Calibration.open(checkpoint, windows, tools.threads);
  };
  const run = tools.text ? open(tools.text) : null;
  let done = 0;
  const tie = async (layer: number, turn: Promise<unknown> | null) => {
    await turn;
    tools.onProgress?.({ phase: "tying", done: done++, total, unit: "layers", detail: `h.${layer}` });
    return tieOne(checkpoint, settings, layer, { tools, pool, run: await run });
  };
  let turn: Promise<unknown> | null = run;
  for (const layer of listTieOrder(total, run !== null)) {
    layers[layer] = tie(layer, turn);
    turn = layers[layer];
  }
  // Callers see the fault of the layer that they await; the fault of any other must not count as unhandled.
  return { layers, settled: Promise.allSettled(layers).then(() => pool.close()) };
}

/** Whether the model is run over the calibration text. */
function needsText({ strategy, variant }: TieSettings): boolean {
  return strategy === "calibrated" || hasDistanceMean(variant);
}

/** The model's layers follow one another; without it the writer's order (by name: h.0, h.1, h.10, …) waits least. */
function listTieOrder(total: number, running: boolean): number[] {
  const layers = Array.from({ length: total }, (_, layer) => layer);
  return running ? layers : layers.sort((a, b) => (`h.${a}.` < `h.${b}.` ? -1 : 1));
}

interface TieTools {
  tools: CutTools;
  pool: TiePool;
  /** The model's hidden states, which flow from layer to layer; null without text. */
  run: Calibration | null;
}

/** Ties one layer; S goes to the scratch file. */
async function tieOne(
  checkpoint: Checkpoint,
  { strategy, variant }: TieSettings,
  layer: number,
  { tools: { scratch, signal }, pool, run }: TieTools,
): Promise<TiedLayer> {
  throwIfAborted(signal);
  const { n_embd, n_head } = checkpoint.config;
  const statistics = (await run?.inputStatistics(layer)) ?? null;
  const measured = strategy === "calibrated" ? statistics : null;
  const projections = await readProjections(checkpoint, layer);
  const tie = await nameLayerInErrors(
    layer,
    pool.tie({ n_embd, n_head, ...projections, ...(measured ?? { sigma: null }), strategy }, { signal }),
  );
  await scratch.put(`h.${layer}.attn.c_attn.weight`, tie.weight);
  if (tie.bias) await scratch.put(`h.${layer}.attn.c_attn.bias`, tie.bias);
  const noiseMean =
    run && hasDistanceMean(variant) ? await nameLayerInErrors(layer, run.distanceMean(layer, tie)) : null;
  run?.advance();
  return { errors: tie.errors, noiseMean };
}

/** Puts the layer's name before the message of what `work` throws. */
async function nameLayerInErrors<T>(layer: number, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof NfcError) || error.code === "aborted") throw error;
    throw new NfcError(error.code, `h.${layer}.attn: ${error.message}`, { hint: error.hint });
  }
}
