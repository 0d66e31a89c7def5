// Ties all layers of a checkpoint in the background, along the teacher's hidden states where there is text.

import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import type { NfcRecord } from "../checkpoint/nfc-record.ts";
import { openTokenStream } from "../checkpoint/token-stream.ts";
import { takeWindows } from "../checkpoint/tokens.ts";
import { NfcError, throwIfAborted } from "../errors.ts";
import { sha256Files } from "../io/sha256.ts";
import { hasDistanceMean } from "../model/variants.ts";
import type { Calibration } from "./calibration.ts";
import { type ConvertOptions, DEFAULT_CALIBRATION_TOKENS } from "./convert-options.ts";
import { TiePool } from "./tie-pool.ts";
import { readProjections, type TieScratch } from "./tied-attention.ts";

/** Attention scores of one window, H·T²: windows are shortened to it, so that memory stays flat. 32 MB a tensor. */
const MAX_SCORES = 2 ** 23;

type CalibrationRecord = NonNullable<NfcRecord["tie"]>["calibration"];

/** The part of a layer's tie that stays in memory; S lies in the scratch file. */
export interface TiedLayer {
  errors: number[];
  noiseMean: Float32Array | null;
}

/** Ties that run in the background, one layer after another. */
export interface RunningTies {
  /** Each layer, once it is tied; rejected from the first fault on. */
  layers: Promise<TiedLayer>[];
  calibration: Promise<CalibrationRecord>;
  /** Resolves when nothing runs any more, whether it went well or not. */
  settled: Promise<void>;
}

/**
 * Starts tying every layer; S goes to the scratch file. Layers follow one another, because the teacher's hidden states
 * flow through them, and the heads of a layer are spread over threads. Abort `options.signal` to stop early.
 */
export function startTies(checkpoint: Checkpoint, options: ConvertOptions, scratch: TieScratch): RunningTies {
  const pool = new TiePool({ threads: options.threads });
  const setup = openCalibration(checkpoint, options);
  const total = checkpoint.config.n_layer;
  const layers: Promise<TiedLayer>[] = [];
  let done = 0;
  const tie = async (layer: number, turn: Promise<unknown>) => {
    await turn;
    options.onProgress?.({ phase: "tying", done: done++, total, unit: "layers", detail: `h.${layer}` });
    return tieOne(checkpoint, options, layer, { scratch, pool, run: (await setup)?.run ?? null });
  };
  let turn: Promise<unknown> = setup;
  for (const layer of listTieOrder(total, needsText(options))) {
    layers[layer] = tie(layer, turn);
    turn = layers[layer];
  }
  // Callers see the fault of the layer that they await; the fault of any other must not count as unhandled.
  const settled = Promise.allSettled(layers).then(() => pool.close());
  return { layers, calibration: setup.then((calibrated) => calibrated?.record ?? null), settled };
}

/** Whether the teacher is run over the calibration text. */
function needsText({ calibration = [], strategy, variant }: ConvertOptions): boolean {
  return calibration.length > 0 && (strategy === "calibrated" || hasDistanceMean(variant));
}

/** The teacher's layers follow one another; without it the writer's order (by name: h.0, h.1, h.10, …) waits least. */
function listTieOrder(total: number, teacher: boolean): number[] {
  const layers = Array.from({ length: total }, (_, layer) => layer);
  return teacher ? layers : layers.sort((a, b) => (`h.${a}.` < `h.${b}.` ? -1 : 1));
}

async function openCalibration(
  checkpoint: Checkpoint,
  options: ConvertOptions,
): Promise<{ run: Calibration; record: CalibrationRecord } | null> {
  const { calibration: paths = [], calibrationTokens = DEFAULT_CALIBRATION_TOKENS, signal, field } = options;
  const [file] = paths;
  if (file === undefined || !needsText(options)) return null;
  // Loaded here, so that a tie without text needs no ONNX Runtime.
  const { Calibration } = await import("./calibration.ts");
  options.onProgress?.({ phase: "reading the calibration text", done: 0, total: null, unit: "files", brief: true });
  const stream = (await openTokenStream(paths, checkpoint, { signal, field }))();
  const longest = Math.floor(Math.sqrt(MAX_SCORES / checkpoint.config.n_head));
  const length = Math.min(checkpoint.config.n_positions, calibrationTokens, longest);
  const windows = await takeWindows(stream, { length, count: calibrationTokens, name: file });
  const tokens = windows.reduce((sum, ids) => sum + ids.length, 0);
  return {
    run: await Calibration.open(checkpoint, windows, options.threads),
    record: { file: paths.join(", "), sha256: await sha256Files(paths, signal), tokens },
  };
}

interface TieTools {
  scratch: TieScratch;
  pool: TiePool;
  /** The teacher's hidden states, which flow from layer to layer; null without text. */
  run: Calibration | null;
}

/** Ties one layer; S goes to the scratch file. */
async function tieOne(
  checkpoint: Checkpoint,
  { strategy, variant, signal }: ConvertOptions,
  layer: number,
  { scratch, pool, run }: TieTools,
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
  await scratch.put(layer, tie);
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
