// Ties all layers of a checkpoint: in order along the teacher's hidden states with text, in parallel without.
import { NfcError } from "../errors.ts";
import { sha256File } from "../io/sha256.ts";
import type { Checkpoint } from "../model/checkpoint.ts";
import type { NfcRecord } from "../model/nfc-record.ts";
import { loadTokenizer } from "../model/tokenizer.ts";
import { firstWindows, tokenStream } from "../model/tokens.ts";
import { Calibration } from "./calibration.ts";
import type { ConvertOptions } from "./convert.ts";
import type { LayerTie } from "./tie.ts";
import { TiePool } from "./tie-pool.ts";
import { readProjections, type TieScratch } from "./tied-attention.ts";

/** Enough for a stable Σ: perplexity after conversion no longer changes with more (docs/convert.md). */
export const DEFAULT_CALIBRATION_TOKENS = 8192;

type CalibrationRecord = NonNullable<NfcRecord["tie"]>["calibration"];

/** What the tie of one layer leaves in memory; S lies in the scratch file. */
export interface TiedLayer {
  errors: number[];
  noiseMean: Float32Array | null;
}

/** Ties every layer; S goes to the scratch file. */
export async function tieLayers(
  checkpoint: Checkpoint,
  options: ConvertOptions,
  scratch: TieScratch,
): Promise<{ ties: TiedLayer[]; calibration: CalibrationRecord }> {
  const pool = new TiePool(options.threads === undefined ? {} : { threads: options.threads });
  try {
    const calibrated = await openCalibration(checkpoint, options);
    const ties = calibrated
      ? await tieInOrder(checkpoint, options, scratch, pool, calibrated.run)
      : await tieInParallel(checkpoint, options, scratch, pool);
    return { ties, calibration: calibrated?.record ?? null };
  } finally {
    await pool.close();
  }
}

async function openCalibration(
  checkpoint: Checkpoint,
  options: ConvertOptions,
): Promise<{ run: Calibration; record: CalibrationRecord } | null> {
  const { calibration: paths = [], calibrationTokens = DEFAULT_CALIBRATION_TOKENS, signal, field } = options;
  const [file] = paths;
  if (file === undefined || (options.strategy !== "calibrated" && options.variant !== "noise-distance")) return null;
  const tokenizer = await loadTokenizer(checkpoint.folder, checkpoint.config);
  const stream = tokenStream(paths, tokenizer, { ...(signal && { signal }), ...(field && { field }) });
  const length = Math.min(checkpoint.config.n_positions, calibrationTokens);
  const windows = await firstWindows(stream, { length, count: calibrationTokens, name: file });
  const tokens = windows.reduce((sum, ids) => sum + ids.length, 0);
  return {
    run: await Calibration.open(checkpoint, windows, options.threads),
    record: { file, sha256: await sha256File(file, signal), tokens },
  };
}

/** The teacher's hidden states flow from layer to layer, so layers are tied one after another. */
async function tieInOrder(
  checkpoint: Checkpoint,
  options: ConvertOptions,
  scratch: TieScratch,
  pool: TiePool,
  calibration: Calibration,
): Promise<TiedLayer[]> {
  const { n_layer } = checkpoint.config;
  const ties: TiedLayer[] = [];
  for (let layer = 0; layer < n_layer; layer++) {
    options.onProgress?.({ phase: "tying", done: layer, total: n_layer, unit: "layers", detail: `h.${layer}` });
    const statistics = await calibration.inputStatistics(layer);
    const sigma = options.strategy === "calibrated" ? statistics : null;
    const tie = await tieOne(checkpoint, options, pool, layer, sigma);
    await scratch.put(layer, tie);
    const noiseMean = options.variant === "noise-distance" ? await calibration.distanceMean(layer, tie) : null;
    ties.push({ errors: tie.errors, noiseMean });
    calibration.advance();
  }
  return ties;
}

/** Without text, layers do not depend on one another: as many are read ahead as the pool has threads. */
async function tieInParallel(
  checkpoint: Checkpoint,
  options: ConvertOptions,
  scratch: TieScratch,
  pool: TiePool,
): Promise<TiedLayer[]> {
  const { n_layer } = checkpoint.config;
  const ties: TiedLayer[] = [];
  let next = 0;
  let done = 0;
  const lane = async () => {
    while (next < n_layer) {
      const layer = next++;
      const tie = await tieOne(checkpoint, options, pool, layer, null);
      await scratch.put(layer, tie);
      ties[layer] = { errors: tie.errors, noiseMean: null };
      done += 1;
      options.onProgress?.({ phase: "tying", done, total: n_layer, unit: "layers", detail: `h.${layer}` });
    }
  };
  await Promise.all(Array.from({ length: pool.threads }, lane));
  return ties;
}

async function tieOne(
  checkpoint: Checkpoint,
  { strategy, signal }: ConvertOptions,
  pool: TiePool,
  layer: number,
  sigma: Float64Array | null,
): Promise<LayerTie> {
  if (signal?.aborted) throw new NfcError("aborted", "interrupted");
  const { n_embd, n_head } = checkpoint.config;
  const projections = await readProjections(checkpoint, layer);
  return pool.tie({ n_embd, n_head, ...projections, sigma, strategy }, signal ? { signal } : {});
}
