// Narrows the MLP of every layer: units that contribute least go, and the rest makes up for them.
import { type Checkpoint, requireTensor } from "../../checkpoint/checkpoint.ts";
import { deriveCheckpoint, makeTensor, type TensorOrigin } from "../../checkpoint/derived.ts";
import { makeNotFiniteError, throwIfAborted } from "../../errors.ts";
import { gemm, mul, reduceSum, sub } from "../../graph/ops.ts";
import { embedWindowsApart, type Hidden } from "../../inference/layerwise.ts";
import type { ModelConfig } from "../../model/config.ts";
import { findParameterKind, type ParameterSpec } from "../../model/parameters.ts";
import type { Cut, CutTools } from "../cut.ts";
import { runInPieces } from "../pieces.ts";
import { joinWeights } from "../repair/repair-moments.ts";
import type { CalibrationText } from "../statistics/calibration-text.ts";
import { moveStreams } from "../statistics/layer-stream.ts";
import { borderGram, requireFinite, sumOverWindows } from "../statistics/layer-sums.ts";
import { checkMlpText, type MlpSettings, resolveMlpUnits } from "./axis-settings.ts";
import { removeUnits } from "./mlp-units.ts";
import { pickColumns, pickRows } from "./pick.ts";

/**
 * The model with `units` hidden units in each MLP. With text the layers are cut one after another, each measured on the
 * stream that the cut ones before it give; without, units of small weights go, and nothing makes up for them.
 * @throws NfcError "usage" as `resolveMlpUnits`, and for a text of no more positions than units stay
 */
export async function cutMlp(checkpoint: Checkpoint, settings: MlpSettings, tools: CutTools): Promise<Cut> {
  const { config } = checkpoint;
  const units = resolveMlpUnits(settings, config);
  const { text } = tools;
  const kept: number[][] = [];
  const model = deriveCheckpoint(checkpoint, { ...config, n_inner: units }, (parameter) =>
    findOrigin(checkpoint, parameter, kept, tools),
  );
  if (text) checkMlpText(text, units);
  const cut = { axis: "mlp", from: config.n_inner, to: units };
  if (!text) {
    await cutByWeights(checkpoint, { units, kept }, tools);
    return { model, finish: async () => ({ cuts: [{ ...cut, chosen: "weights" }] }) };
  }
  const errors = await cutAlong(checkpoint, { model, units, kept }, text, tools);
  return { model, finish: async () => ({ cuts: [{ ...cut, chosen: "measured", errors, calibration: text.record }] }) };
}

/** Tensors of a layer may be read once `kept` has it. */
function findOrigin(
  checkpoint: Checkpoint,
  { name, layer }: ParameterSpec,
  kept: readonly (readonly number[])[],
  { dtype, scratch, text }: CutTools,
): TensorOrigin {
  if (layer === null || findParameterKind(name) !== "mlp") return name;
  const units = () => kept[layer] as readonly number[];
  if (name.includes(".c_fc.")) return pickColumns(checkpoint, name, units);
  if (text) return makeTensor(dtype ?? requireTensor(checkpoint, name).dtype, () => scratch.read(name));
  return name.endsWith(".bias") ? name : pickRows(checkpoint, name, units);
}

interface CutInProgress {
  model: Checkpoint;
  units: number;
  /** The units that stay in each layer; grows. */
  kept: number[][];
}

/** Cuts layer by layer along the text: gives each layer's error, relative to the deviation of the MLP's output. */
async function cutAlong(
  checkpoint: Checkpoint,
  { model, units, kept }: CutInProgress,
  { windows }: CalibrationText,
  tools: CutTools,
): Promise<number[]> {
  const { device, threads, scratch, signal, onProgress } = tools;
  const errors: number[] = [];
  const total = checkpoint.config.n_layer;
  let stream = await embedWindowsApart(checkpoint, windows);
  for (let layer = 0; layer < total; layer++) {
    throwIfAborted(signal);
    onProgress?.({ phase: "cutting MLPs", done: layer, total, unit: "layers", detail: `h.${layer}` });
    const { gram, energy } = await measureUnits(checkpoint, layer, stream, tools);
    const weight = await joinWeights(checkpoint, layer, "mlp");
    const size = weight.length / checkpoint.config.n_embd;
    const hidden = { gram, weight, units: checkpoint.config.n_inner, size };
    const result = await runInPieces(removeUnits(hidden, units), signal);
    kept[layer] = result.kept;
    errors.push(energy > 0 ? Math.sqrt(Math.max(0, result.cost) / energy) : 0);
    await keepOutputWeights(layer, weight, result.kept, checkpoint.config, scratch);
    if (layer + 1 < total)
      [stream] = (await moveStreams(model, layer, [stream], { device, threads, signal })) as [Hidden[]];
  }
  return errors;
}

/**
 * Σ ãᵀã of a layer's hidden units, and Σ ‖y − ȳ‖² of the MLP's output, over a stream before the layer.
 * @throws NfcError "invalid-file" where they are not finite; "aborted"
 */
async function measureUnits(
  checkpoint: Checkpoint,
  layer: number,
  stream: readonly Hidden[],
  { device, threads, signal }: CutTools,
): Promise<{ gram: Float64Array; energy: number }> {
  const { n_embd, bias } = checkpoint.config;
  const { sums, positions } = await sumOverWindows(checkpoint, layer, stream, {
    device,
    threads,
    signal,
    values: (_, { middle, inner, output }) => {
      const y = sub(output, middle); // [T, C]
      return {
        gram: gemm(inner, inner, { transA: true }), // [I, I]
        sum: reduceSum(inner, [0]), // [I]
        outputSum: reduceSum(y, [0]), // [C]
        outputSquares: reduceSum(mul(y, y), [0]), // [C]
      };
    },
  });
  requireFinite(sums, checkpoint, `h.${layer}.mlp`);
  const { gram, sum, outputSum, outputSquares } = sums;
  let energy = 0;
  for (let c = 0; c < n_embd; c++) energy += (outputSquares[c] as number) - (outputSum[c] as number) ** 2 / positions;
  return { gram: bias ? borderGram(gram, sum, positions) : gram, energy };
}

async function keepOutputWeights(
  layer: number,
  weight: Float64Array,
  kept: readonly number[],
  { n_embd: width, bias }: ModelConfig,
  scratch: CutTools["scratch"],
): Promise<void> {
  const rows = new Float32Array(kept.length * width);
  for (const [r, j] of kept.entries()) rows.set(weight.subarray(j * width, (j + 1) * width), r * width);
  await scratch.put(`h.${layer}.mlp.c_proj.weight`, rows);
  if (bias) await scratch.put(`h.${layer}.mlp.c_proj.bias`, Float32Array.from(weight.subarray(-width)));
}

/** Without text a unit counts for ‖w_fc‖ · ‖w_proj‖. */
async function cutByWeights(
  checkpoint: Checkpoint,
  { units, kept }: Pick<CutInProgress, "units" | "kept">,
  { signal, onProgress }: CutTools,
): Promise<void> {
  const { n_layer, n_inner, n_embd } = checkpoint.config;
  for (let layer = 0; layer < n_layer; layer++) {
    throwIfAborted(signal);
    onProgress?.({ phase: "cutting MLPs", done: layer, total: n_layer, unit: "layers", detail: `h.${layer}` });
    const into = await checkpoint.readF32(`h.${layer}.mlp.c_fc.weight`); // [C, I]
    const out = await checkpoint.readF32(`h.${layer}.mlp.c_proj.weight`); // [I, C]
    const [before, after] = [new Float64Array(n_inner), new Float64Array(n_inner)];
    for (let i = 0; i < into.length; i++)
      before[i % n_inner] = (before[i % n_inner] as number) + (into[i] as number) ** 2;
    for (let i = 0; i < out.length; i++) {
      const unit = Math.floor(i / n_embd);
      after[unit] = (after[unit] as number) + (out[i] as number) ** 2;
    }
    const sizes = before.map((square, unit) => square * (after[unit] as number));
    if (!sizes.every(Number.isFinite))
      throw makeNotFiniteError(`${checkpoint.source}: h.${layer}.mlp: weights are not finite`);
    const order = [...sizes.keys()].sort((a, b) => (sizes[b] as number) - (sizes[a] as number));
    kept[layer] = order.slice(0, units).sort((a, b) => a - b);
  }
}
