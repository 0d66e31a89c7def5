// Measures what attention of lower ranks would lose in every layer, without converting anything.
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { computeScoreScale } from "../../model/attention.ts";
import type { ModelConfig } from "../../model/config.ts";
import { multiplyRows } from "../../numeric/linalg.ts";
import type { CutTools } from "../cut.ts";
import type { Calibration, LayerStatistics } from "../statistics/calibration.ts";
import { runLayers } from "../statistics/layer-run.ts";
import { findScoreSpectrum } from "./low-rank.ts";
import { readScoreLayer } from "./low-rank-layers.ts";
import { findValueSpectrum } from "./narrow-values.ts";
import type { RankSpectrum } from "./ranks.ts";
import { readValueLayer } from "./value-layers.ts";

/**
 * What lower ranks of a layer lose. A loss is the squared error of the layer's output, to first order, relative to the
 * square of its hidden states; without text, the squared errors of the forms, all inputs alike.
 */
export interface LayerSpectra {
  /** By the rank of q and k. */
  scores: RankSpectrum;
  /** By the rank of v and c_proj. */
  values: RankSpectrum;
}

/** @param checkpoint dense @throws NfcError "invalid-file" where weights or attention are not finite; "aborted" */
export async function measureSpectra(checkpoint: Checkpoint, tools: CutTools): Promise<LayerSpectra[]> {
  const work = (layer: number, run: Calibration | null) => measureLayer(checkpoint, layer, run);
  const { layers, settled } = runLayers(checkpoint, { phase: "measuring ranks", work }, tools);
  await settled;
  return Promise.all(layers);
}

async function measureLayer(checkpoint: Checkpoint, layer: number, run: Calibration | null): Promise<LayerSpectra> {
  const { n_embd, n_head, bias } = checkpoint.config;
  const statistics = (await run?.inputStatistics(layer)) ?? null;
  const heads = Array.from({ length: n_head }, (_, head) => head);
  const scoreLayer = await readScoreLayer(checkpoint, layer, statistics);
  const scores = heads.map((head) => findScoreSpectrum(scoreLayer, head));
  const valueLayer = await readValueLayer(checkpoint, layer, statistics);
  const values = heads.map((head) => findValueSpectrum(valueLayer, head));
  const effects = weighHeads(valueLayer.outWeight, statistics, checkpoint.config, layer);
  const rows = bias ? n_embd + 1 : n_embd;
  return {
    scores: { losses: sumLosses(scores, effects.scores), parameters: 2 * n_head * rows },
    values: { losses: sumLosses(values, effects.values), parameters: n_head * (rows + n_embd) },
  };
}

/**
 * What a squared error of each head counts. An error e_ij of the scores changes the attention to first order by
 * p_ij (e_ij − ē_i), and the output by Σ_j p_ij (e_ij − ē_i) v_j W_o, whose square is at most
 * Σ_j p_ij (e_ij − ē_i)² · Σ_j p_ij |(v_j − v̄_i) W_o|²: the second sum, averaged over the queries, and the square of the
 * factor on the scores, 1/D in most models. An error of the values is one of the output as it is.
 */
function weighHeads(outWeight: Float32Array, statistics: LayerStatistics | null, config: ModelConfig, layer: number) {
  const { n_embd: C, n_head: H } = config;
  const D = C / H;
  if (!statistics) return { scores: Array<number>(H).fill(1), values: Array<number>(H).fill(1) };
  const { valueMoments, power } = statistics;
  const scores = valueMoments.map((moments, head) => {
    const out = Float64Array.from(outWeight.subarray(head * D * C, (head + 1) * D * C)); // W_o: [D, C]
    const gram = multiplyRows(out, out, D, C, D); // W_o W_oᵀ
    const spread = moments.reduce((sum, value, at) => sum + value * (gram[at] as number), 0); // tr(Γ_v W_o W_oᵀ)
    return (spread * computeScoreScale(config, layer) ** 2) / power;
  });
  return { scores, values: Array<number>(H).fill(1 / power) };
}

/** Σ_h w_h Σ_{>r} σ² for each rank r: [D + 1] */
function sumLosses(heads: readonly Float64Array[], weights: readonly number[]): Float64Array {
  const D = heads[0]?.length ?? 0;
  const losses = new Float64Array(D + 1);
  for (let r = D - 1; r >= 0; r--) {
    const lost = heads.reduce((sum, values, h) => sum + (weights[h] as number) * (values[r] as number) ** 2, 0);
    losses[r] = (losses[r + 1] as number) + lost;
  }
  return losses;
}
