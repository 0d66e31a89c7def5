// The keys that name a form of attention other than GPT-2's, in config.json and in the metadata of a safetensors file.
import { NfcError } from "../errors.ts";
import { parseJson } from "../io/json.ts";
import { MAX_LAYERS, MAX_WIDTH, type ModelConfig } from "../model/config.ts";
import { getDefaultRank, getHeadSize } from "../model/head-widths.ts";
import { isPlainGpt2, VARIANT_TRAITS, VARIANTS, type Variant } from "../model/variants.ts";
import { FieldReader } from "./fields.ts";

/** The key under which a compact checkpoint's config.json names its variant (model_type stays "gpt2"). */
const VARIANT_KEY = "nfc_variant";
/** The keys of `qk_ranks` and `vo_ranks`: a number, or a list of one a layer. */
const RANK_KEYS = { qk_ranks: "nfc_qk_rank", vo_ranks: "nfc_vo_rank" } as const;

export const FORM_KEYS: readonly string[] = [VARIANT_KEY, ...Object.values(RANK_KEYS)];

/** The fields as they are written, undefined where they are not. */
export interface ParsedForm {
  variant: Variant | undefined;
  qk_ranks: number | readonly number[] | undefined;
  vo_ranks: number | readonly number[] | undefined;
}

/** The keys that tell a form of attention which is not GPT-2's: the variant, and its ranks. */
export function makeFormKeys(config: ModelConfig): Record<string, string | number | readonly number[]> {
  if (isPlainGpt2(config.variant)) return {};
  const keys: Record<string, string | number | readonly number[]> = { [VARIANT_KEY]: config.variant };
  for (const [field, key] of Object.entries(RANK_KEYS)) {
    const ranks = config[field as keyof typeof RANK_KEYS];
    if (ranks) keys[key] = new Set(ranks).size === 1 ? (ranks[0] as number) : ranks;
  }
  return keys;
}

/**
 * The same keys for the metadata of a safetensors file, where its shapes do not tell the form: low-rank matrices look like
 * those of another variant.
 */
export function makeFormMetadata(config: ModelConfig): Record<string, string> {
  if (!VARIANT_TRAITS[config.variant].narrow && !config.vo_ranks) return {};
  const keys = Object.entries(makeFormKeys(config));
  return Object.fromEntries(
    keys.map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)]),
  );
}

/** Reads what `makeFormMetadata` wrote. @throws NfcError "invalid-file" for keys of another content */
export function readFormMetadata(metadata: Readonly<Record<string, string>>, file: string): ParsedForm {
  const raw: Record<string, unknown> = {};
  for (const key of FORM_KEYS) {
    const value = metadata[key];
    if (value === undefined) continue;
    raw[key] = key === VARIANT_KEY ? value : parseJson(Buffer.from(value), `${file}: metadata: ${key}`);
  }
  return readForm(new FieldReader(raw, file));
}

export function readForm(fields: FieldReader): ParsedForm {
  return {
    variant: readVariant(fields),
    qk_ranks: readRanks(fields, RANK_KEYS.qk_ranks),
    vo_ranks: readRanks(fields, RANK_KEYS.vo_ranks),
  };
}

/** A rank of all layers, or a list of one a layer. */
function readRanks(fields: FieldReader, key: string): number | readonly number[] | undefined {
  const value = fields.value(key);
  if (!Array.isArray(value)) return fields.integer(key, { min: 1, max: MAX_WIDTH });
  const fits = (rank: unknown) => Number.isInteger(rank) && (rank as number) >= 1 && (rank as number) <= MAX_WIDTH;
  if (value.length > MAX_LAYERS || !value.every(fits)) throw fields.wrong(key, "an integer from 1, or a list of them");
  return value;
}

function readVariant(fields: FieldReader): Variant | undefined {
  const name = fields.text(VARIANT_KEY);
  const variant = VARIANTS.find((known) => known === name);
  if (name !== undefined && variant === undefined) throw fields.wrong(VARIANT_KEY, `one of ${VARIANTS.join(", ")}`);
  return variant;
}

/**
 * The ranks of all layers: a low-rank model has half of D in q and k where config.json does not say.
 * @throws NfcError "invalid-file" for ranks of other layers, above D, or in a variant that has none
 */
export function resolveRanks(
  { file, ...stated }: Omit<ParsedForm, "variant"> & { file: string },
  sizes: Pick<ModelConfig, "n_layer" | "n_head" | "n_embd" | "variant">,
): Pick<ModelConfig, "qk_ranks" | "vo_ranks"> {
  const { narrow = false } = VARIANT_TRAITS[sizes.variant];
  const allowed = { qk_ranks: narrow, vo_ranks: !isPlainGpt2(sizes.variant) };
  const given = { ...stated, qk_ranks: stated.qk_ranks ?? (narrow ? getDefaultRank(sizes) : undefined) };
  const out: { qk_ranks?: readonly number[]; vo_ranks?: readonly number[] } = {};
  for (const field of ["qk_ranks", "vo_ranks"] as const) {
    const value = given[field];
    if (value === undefined) continue;
    const invalid = (fact: string) => new NfcError("invalid-file", `${file}: ${RANK_KEYS[field]} ${fact}`);
    if (!allowed[field]) throw invalid(`is stated, but ${sizes.variant} attention has no such rank`);
    const ranks = typeof value === "number" ? Array<number>(sizes.n_layer).fill(value) : value;
    if (ranks.length !== sizes.n_layer) throw invalid(`has ${ranks.length} entries, but n_layer is ${sizes.n_layer}`);
    const size = getHeadSize(sizes);
    const large = ranks.find((rank) => rank > size);
    if (large !== undefined) throw invalid(`${large} is above n_embd / n_head = ${size}`);
    out[field] = ranks;
  }
  return out;
}
