// The widths of attention: how many numbers q, k and v of a head have in each layer, and what follows for c_attn.
import type { ModelConfig } from "./config.ts";
import { VARIANT_TRAITS } from "./variants.ts";

/** Numbers of a head in one layer: of q and of k (or of s, which serves as both), and of v. */
export interface HeadWidths {
  qk: number;
  v: number;
}

type Widths = Pick<ModelConfig, "n_embd" | "n_head" | "qk_ranks" | "vo_ranks">;

/** D = n_embd / n_head, the width of GPT-2's heads, by whose root scores are divided in every variant. */
export function getHeadSize({ n_embd, n_head }: Pick<ModelConfig, "n_embd" | "n_head">): number {
  return n_embd / n_head;
}

export function getHeadWidths(config: Widths, layer: number): HeadWidths {
  const D = getHeadSize(config);
  return { qk: config.qk_ranks?.[layer] ?? D, v: config.vo_ranks?.[layer] ?? D };
}

/** The rank of q and k where a low-rank model does not say: half of D, with which it has as many parameters as a tied one. */
export function getDefaultRank(config: Pick<ModelConfig, "n_embd" | "n_head">): number {
  return Math.max(1, Math.floor(getHeadSize(config) / 2));
}

/** The plain GPT-2 of the same sizes. */
export function makePlainConfig({ qk_ranks: _, vo_ranks: __, ...config }: ModelConfig): ModelConfig {
  return { ...config, variant: "dense" };
}

export type AttentionPart = "q" | "k" | "qk" | "v";

/** The parts of c_attn in the order of its columns, [q, k, v] or [s, v] (s is `qk`), each with all heads' columns. */
export function listAttentionParts(
  config: Widths & Pick<ModelConfig, "variant">,
  layer: number,
): { part: AttentionPart; columns: number }[] {
  const { qk, v } = getHeadWidths(config, layer);
  const scores: AttentionPart[] = VARIANT_TRAITS[config.variant].tied ? ["qk"] : ["q", "k"];
  const parts = scores.map((part) => ({ part, columns: config.n_head * qk }));
  return [...parts, { part: "v", columns: config.n_head * v }];
}

/** Columns of c_attn: 3C in GPT-2, 2C where Q and K are tied. */
export function countAttentionColumns(config: Widths & Pick<ModelConfig, "variant">, layer: number): number {
  return listAttentionParts(config, layer).reduce((sum, { columns }) => sum + columns, 0);
}

/** One of the two tensors [B, H, S, width] that a layer keeps of the positions before. */
export interface CachePart {
  part: "key" | "value";
  width: number;
}

export function listCacheParts(config: Widths, layer: number): [CachePart, CachePart] {
  const { qk, v } = getHeadWidths(config, layer);
  return [
    { part: "key", width: qk },
    { part: "value", width: v },
  ];
}

/** Whether keys or values of that width are narrower than GPT-2's, n_embd / n_head. */
export function isNarrowCache(config: Pick<ModelConfig, "n_embd" | "n_head">, width: number): boolean {
  return width !== getHeadSize(config);
}
