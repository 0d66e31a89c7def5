// Models of the forms with heads of their own widths, cut from a dense one: quick to make, and of no quality.
import { readFileSync } from "node:fs";
import { copyFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import type { ModelConfig } from "../../src/model/config.ts";
import { getHeadSize, getHeadWidths } from "../../src/model/head-widths.ts";
import { listParameters } from "../../src/model/parameters.ts";
import { VARIANT_TRAITS, type Variant } from "../../src/model/variants.ts";
import { opened } from "./fixture.ts";
import { encode, type RawTensor, tinyValues, writeCheckpoint } from "./make-checkpoint.ts";

export interface Form {
  variant: Variant;
  /** One for all layers, or one a layer. */
  qk?: number | readonly number[];
  vo?: number | readonly number[];
}

/** Far enough from the identity that a form which is ignored shows. */
const PAIR_DEVIATION = 0.2;

/**
 * Writes `source`, a dense model, in that form: a head's q (or s), k and v are the first columns of the dense ones, A is the
 * identity and some noise. The tokenizer comes along. Gives `output`.
 */
export async function formOf(source: string, output: string, { variant, qk, vo }: Form): Promise<string> {
  const tensors = await opened(source, async (checkpoint): Promise<RawTensor[]> => {
    const { n_layer } = checkpoint.config;
    const list = (rank: Form["qk"]) => (typeof rank === "number" ? Array<number>(n_layer).fill(rank) : rank);
    const [qk_ranks, vo_ranks] = [list(qk), list(vo)];
    const config: ModelConfig = {
      ...{ ...checkpoint.config, variant },
      ...(qk_ranks && { qk_ranks }),
      ...(vo_ranks && { vo_ranks }),
    };
    const make = async ({ name, shape, layer }: ReturnType<typeof listParameters>[number]): Promise<RawTensor> => {
      const size = shape.reduce((product, dim) => product * dim, 1);
      const values = name.endsWith("attn.pair")
        ? makePair(name, config)
        : name.includes("attn.noise")
          ? tinyValues(name, size)
          : cutHeads(name, await checkpoint.readF32(name), config, layer);
      return { name, dtype: "F32", shape, bytes: encode(values, "F32") };
    };
    return Promise.all(listParameters(config).map(make));
  });
  const raw = JSON.parse(readFileSync(join(source, "config.json"), "utf8"));
  const ranks = { ...(qk !== undefined && { nfc_qk_rank: qk }), ...(vo !== undefined && { nfc_vo_rank: vo }) };
  await writeCheckpoint(output, { tensors, config: { ...raw, nfc_variant: variant, ...ranks } });
  for (const name of (await readdir(source)).filter((file) => /token|vocab|merges/.test(file)))
    await copyFile(join(source, name), join(output, name));
  return output;
}

/** A [H, D, D] */
function makePair(name: string, config: ModelConfig): Float32Array {
  const D = getHeadSize(config);
  const noise = tinyValues(name, config.n_head * D * D);
  return noise.map((value, i) => PAIR_DEVIATION * value + (Math.floor(i / D) % D === i % D ? 1 : 0));
}

/** The first columns of each head of a dense c_attn, or the first rows of each head of c_proj; other weights are kept. */
function cutHeads(name: string, values: Float32Array, config: ModelConfig, layer: number | null): Float32Array {
  if (layer === null) return values;
  const { n_embd: C, n_head: H } = config;
  const D = getHeadSize(config);
  const widths = getHeadWidths(config, layer);
  const heads = [...Array(H).keys()];
  const pick = (first: number, width: number) =>
    heads.flatMap((head) => Array.from({ length: width }, (_, i) => first + head * D + i));
  if (name.endsWith("attn.c_proj.weight"))
    return Float32Array.from(pick(0, widths.v).flatMap((row) => [...values.subarray(row * C, (row + 1) * C)]));
  if (!name.includes("attn.c_attn")) return values;
  const keys = VARIANT_TRAITS[config.variant].tied ? [] : pick(C, widths.qk);
  const columns = [...pick(0, widths.qk), ...keys, ...pick(2 * C, widths.v)];
  const rows = [...Array(values.length / (3 * C)).keys()];
  return Float32Array.from(rows.flatMap((row) => columns.map((column) => values[row * 3 * C + column] as number)));
}
