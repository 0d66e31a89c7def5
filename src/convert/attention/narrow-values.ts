// Lowers the rank of what one layer's heads put out: v and the rows of W_o of each head with r numbers in place of D.
import { multiply, multiplyRows, multiplyTransposed, transpose } from "../../numeric/linalg.ts";
import { mixMoments } from "../statistics/moments.ts";
import {
  applyFactor,
  type FormFactors,
  type FormGrams,
  factorHeads,
  findSpectrum,
  measureRankError,
} from "./factor-form.ts";
import { requireFiniteHead, requireFloat32, takeHeadColumns } from "./heads.ts";

export interface ValueLayer {
  n_embd: number;
  n_head: number;
  vWeight: Float32Array; // [C, C], head h in the columns h·D …
  vBias: Float32Array | null; // [C]
  outWeight: Float32Array; // c_proj, [C, C], head h in the rows h·D …
  outBias: Float32Array | null; // [C]
  /** E[aᵀa] and E[a] of the mixed values of each head (`LayerStatistics`). Null: all inputs count alike. */
  mixed: { moments: readonly Float64Array[]; means: readonly Float64Array[] } | null;
  /** Share of the moments in the metric, as `computeTrust` gives it. */
  trust: number;
}

export interface NarrowValues {
  weight: Float32Array; // v: [C, H·r]
  bias: Float32Array | null; // [H·r]
  outWeight: Float32Array; // [H·r, C]
  outBias: Float32Array | null; // [C]
  /** Relative error of each head (`measureRankError`). */
  errors: number[];
}

/** Factors W̃v W_o of each head (`factor-form.ts`). @throws NfcError as `measureGrams` */
export function factorValues(layer: ValueLayer): FormFactors[] {
  return factorHeads(layer, (head) => measureGrams(layer, head));
}

/** The spectrum of W̃v W_o of a head (`findSpectrum`): [D] @throws NfcError as `measureGrams` */
export function findValueSpectrum(layer: ValueLayer, head: number): Float64Array {
  const { left, right } = measureGrams(layer, head);
  return findSpectrum(left, right, layer.n_embd / layer.n_head);
}

/**
 * The moments of both sides of W̃v W_o of a head. Its inputs are m_i = Σ_j p_ij x̃_j, mixed by the attention, and their
 * moments in the coordinates of v those of a_i = m_i W̃v. Where the model has biases a is centered, since the bias of c_proj
 * takes up any error of its mean. All directions of the output count alike.
 * @throws NfcError "invalid-file" when weights or attention are not finite
 */
function measureGrams(layer: ValueLayer, head: number): FormGrams {
  const { n_embd: C, n_head, mixed, trust, outBias } = layer;
  const D = C / n_head;
  const { weight, out } = takeHead(layer, head);
  const plain = multiplyTransposed(weight, weight, D, C, D); // W_vᵀW_v
  const right = multiplyRows(out, out, D, C, D); // W_o W_oᵀ
  const [moments, mean] = [mixed?.moments[head], mixed?.means[head]];
  if (!moments || !mean) return { left: plain, right };
  requireFiniteHead(head, "attention", [moments, mean]);
  const measured = outBias ? center(moments, mean, D) : moments;
  return { left: mixMoments(measured, plain, D, trust), right };
}

/**
 * v and c_proj at rank r. With T [D, r] and R [r, D] the factors of a head, W̃v' = W̃v T and W_o' = R W_o; the bias of c_proj
 * takes what the mean ā loses, ā (W_o − T W_o').
 * @throws NfcError "unsupported" where they are beyond float32
 */
export function narrowValues(layer: ValueLayer, factors: readonly FormFactors[], r: number): NarrowValues {
  const { n_embd: C, n_head, mixed, trust } = layer;
  const D = C / n_head;
  const weight = new Float32Array(C * n_head * r);
  const bias = layer.vBias ? new Float32Array(n_head * r) : null;
  const outWeight = new Float32Array(n_head * r * C);
  const shift = Float64Array.from(layer.outBias ?? []);
  for (const [head, { left, right }] of factors.entries()) {
    const { weight: w, out, bias: b } = takeHead(layer, head);
    const values = applyFactor(w, left, C, D, r); // [C, r]
    const outputs = transpose(applyFactor(transpose(out, D, C), right, C, D, r), C, r); // W_o': [r, C]
    for (let row = 0; row < C; row++) weight.set(values.subarray(row * r, (row + 1) * r), (row * n_head + head) * r);
    outWeight.set(outputs, head * r * C);
    if (!b || !bias) continue;
    bias.set(applyFactor(b, left, 1, D, r), head * r);
    const measured = mixed?.means[head] as Float64Array | undefined;
    const mean = measured ? b.map((value, d) => trust * (measured[d] as number) + (1 - trust) * value) : b;
    const before = multiply(mean, out, 1, D, C);
    const after = multiply(applyFactor(mean, left, 1, D, r), outputs, 1, r, C);
    for (let c = 0; c < C; c++) shift[c] = (shift[c] as number) + (before[c] as number) - (after[c] as number);
  }
  const outBias = layer.outBias && Float32Array.from(shift);
  const hint = "convert without --calibration, or without --vo-rank";
  requireFloat32([weight, bias, outWeight, outBias], `the values of rank ${r}`, hint);
  return { weight, bias, outWeight, outBias, errors: factors.map(({ values }) => measureRankError(values, r)) };
}

/** W_v [C, D], b_v [D] and W_o [D, C] of a head. */
function takeHead(layer: ValueLayer, head: number) {
  const { n_embd: C, n_head, vWeight, vBias, outWeight } = layer;
  const D = C / n_head;
  const weight = takeHeadColumns(vWeight, null, head, layer);
  const bias = vBias && Float64Array.from(vBias.subarray(head * D, (head + 1) * D));
  const out = Float64Array.from(outWeight.subarray(head * D * C, (head + 1) * D * C));
  requireFiniteHead(head, "V or c_proj", [weight, bias, out]);
  return { weight, bias, out };
}

/** E[aᵀa] − āᵀā */
function center(moments: Float64Array, mean: Float64Array, D: number): Float64Array {
  return moments.map((value, at) => value - (mean[Math.floor(at / D)] as number) * (mean[at % D] as number));
}
