// Counts what a checkpoint stores, by group and layer. Reads headers only.

import { type Checkpoint, type CheckpointTensor, requireTensor } from "../../checkpoint/checkpoint.ts";
import { countElements } from "../../formats/dtype.ts";
import type { ModelConfig } from "../../model/config.ts";
import { getHeadSize, getHeadWidths } from "../../model/head-widths.ts";
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

/**
 * The parameters that narrow heads save, less those of the forms A: with b = 1 for biases, 2 H (C + b) Σ(D − r) for q and k
 * (once for s), H (2C + b) Σ(D − v) for v and the rows of c_proj, and L H D² for A.
 */
export function countHeadSaving(config: ModelConfig): number {
  return listHeadTerms(config).reduce((sum, { amount }) => sum + amount, 0);
}

/** {@link countHeadSaving} as it is computed: "2 H (C + 1) sum(D - r) = 2 * 4 * 257 * 192"; null where it is 0. */
export function formatHeadFormula(config: ModelConfig): string | null {
  const terms = listHeadTerms(config);
  if (terms.length === 0) return null;
  const join = (key: "text" | "numbers") =>
    terms
      .map((term) => term[key])
      .join(" + ")
      .replaceAll("+ -", "- ");
  return `${join("text")} = ${join("numbers")}`;
}

function listHeadTerms(config: ModelConfig): { text: string; numbers: string; amount: number }[] {
  const { n_embd: C, n_head: H, n_layer: L, bias, variant } = config;
  const [D, b] = [getHeadSize(config), bias ? 1 : 0];
  const { tied, paired } = VARIANT_TRAITS[variant];
  const widths = Array.from({ length: L }, (_, layer) => getHeadWidths(config, layer));
  const [qk, v] = (["qk", "v"] as const).map((part) => widths.reduce((sum, each) => sum + D - each[part], 0)) as [
    number,
    number,
  ];
  const [times, text, add] = [tied ? 1 : 2, tied ? "" : "2 ", bias ? " + 1" : ""];
  const terms = [
    {
      text: `${text}H (C${add}) sum(D - r)`,
      numbers: `${tied ? "" : "2 * "}${H} * ${C + b} * ${qk}`,
      amount: times * H * (C + b) * qk,
    },
    { text: `H (2C${add}) sum(D - v)`, numbers: `${H} * ${2 * C + b} * ${v}`, amount: H * (2 * C + b) * v },
    { text: "-L H D^2", numbers: `-${L} * ${H} * ${D}^2`, amount: paired ? -L * H * D ** 2 : 0 },
  ];
  return terms.filter(({ amount }) => amount !== 0);
}

/** True when Q and K are one projection. */
export function isTied(config: ModelConfig): boolean {
  return VARIANT_TRAITS[config.variant].tied;
}
