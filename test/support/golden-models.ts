// The reference implementations' models (../shared/golden, test/golden) as checkpoints on disk, with their ids and logits.
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { openSafetensors } from "../../src/formats/safetensors/reader.ts";
import { VARIANTS } from "../../src/model/variants.ts";
import { SHARED } from "./fixture.ts";
import { type RawTensor, tinyHfConfig, writeCheckpoint } from "./make-checkpoint.ts";

const GOLDEN = join(SHARED, "golden");

/**
 * Numbers of an independent PyTorch program for forms that the reference implementation lacks: two layers, C = 24, 3 heads,
 * with their own widths of heads and MLP. The same contents as ../shared/golden has.
 */
const FORMS_FOLDER = new URL("../golden/", import.meta.url).pathname;

/** The dense model that those of test/golden have learned from. */
const TEACHER = "teacher";

/** The models of test/golden. */
export const FORM_NAMES = ["pairwise", "low-rank", "low-rank-layers", "symmetric-vo"] as const;

/** The variants that ../shared/golden has, where it is there, and the models of test/golden. */
export const GOLDEN_NAMES: readonly string[] = [
  ...(existsSync(GOLDEN) ? VARIANTS.filter((variant) => existsSync(join(GOLDEN, `${variant}.json`))) : []),
  ...FORM_NAMES,
];

/** The path of a golden model's numbers, less .json or .safetensors. */
export function findGolden(name: string): string {
  return join((FORM_NAMES as readonly string[]).includes(name) || name === TEACHER ? FORMS_FOLDER : GOLDEN, name);
}

export interface GoldenModel {
  folder: string;
  /** [B][T] */
  ids: Int32Array[];
  /** PyTorch's at the mean of the noise: [B·T, V] */
  logits: Float32Array;
}

/** Writes the model that a golden one learned from below `folder`; gives its folder. */
export async function goldenTeacher(name: string, folder: string): Promise<string> {
  if (!(FORM_NAMES as readonly string[]).includes(name)) return join(GOLDEN, "tiny-gpt2");
  return (await goldenModel(TEACHER, folder)).folder;
}

/** Writes the model of that name below `folder`. */
export async function goldenModel(name: string, folder: string): Promise<GoldenModel> {
  const reader = await openSafetensors(`${findGolden(name)}.safetensors`);
  const { config, variant = name, keys = {} } = JSON.parse(await readFile(`${findGolden(name)}.json`, "utf8"));
  const { n_layer, n_head, n_embd, n_positions, vocab_size } = config;
  const tensors: RawTensor[] = [];
  for (const { name, dtype, shape } of reader.tensors.values())
    if (name.startsWith("param."))
      tensors.push({ name: name.slice("param.".length), dtype, shape, bytes: await reader.readBytes(name) });
  const raw = { ...tinyHfConfig({ variant }), n_layer, n_head, n_embd, n_positions, vocab_size, ...keys };
  await writeCheckpoint(folder, { tensors, config: raw });
  const bytes = await reader.readBytes("ids");
  const ids = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  const [batch = 0] = reader.tensors.get("ids")?.shape ?? [];
  const length = ids.length / batch;
  const logits = await reader.readF32("mean_logits");
  await reader.close();
  return { folder, ids: Array.from({ length: batch }, (_, b) => ids.slice(b * length, (b + 1) * length)), logits };
}

/** The largest absolute difference; NaN anywhere gives NaN. */
export function worstOf(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length) return Number.NaN;
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - (b[i] as number))), 0);
}
