// Counts what a checkpoint stores, by group and layer. Reads headers only.

import { type Checkpoint, type CheckpointTensor, requireTensor } from "../../checkpoint/checkpoint.ts";
import { countElements } from "../../formats/dtype.ts";
import type { ModelConfig } from "../../model/config.ts";
import { groupParameters, listParameters, type ParameterGroup } from "../../model/parameters.ts";
import { VARIANT_TRAITS } from "../../model/variants.ts";
import type { Weight } from "./weights.ts";

/** The share of one tensor in one group; `layer` is null outside the blocks. */
export interface TallyEntry extends Weight<number> {
  group: ParameterGroup;
  layer: number | null;
}

/** Every tensor once, c_attn once for each of its parts, in the order of the parameters. */
export function tallyTensors(checkpoint: Checkpoint): TallyEntry[] {
  return listParameters(checkpoint.config).flatMap((spec) => {
    const bytesEach = averageBytes(requireTensor(checkpoint, spec.name));
    return groupParameters(spec, checkpoint.config).map(({ group, count }) => {
      return { group, layer: spec.layer, parameters: count, bytes: count * bytesEach };
    });
  });
}

function averageBytes(tensor: CheckpointTensor): number {
  return tensor.byteLength / countElements(tensor.shape);
}

/** The parameters that tying removes: a third of c_attn in every layer, L(C^2 + C), or L C^2 without biases. */
export function countTyingSaving(config: ModelConfig): number {
  return config.n_layer * (config.n_embd ** 2 + (config.bias ? config.n_embd : 0));
}

/** {@link countTyingSaving} as it is computed: "12 * (768^2 + 768)". */
export function formatTyingFormula({ n_layer, n_embd, bias }: ModelConfig): string {
  return bias ? `L(C^2 + C) = ${n_layer} * (${n_embd}^2 + ${n_embd})` : `L C^2 = ${n_layer} * ${n_embd}^2 (no biases)`;
}

/** True when Q and K are one projection. */
export function isTied(config: ModelConfig): boolean {
  return VARIANT_TRAITS[config.variant].tied;
}
