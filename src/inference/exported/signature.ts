// Checks the inputs and outputs of an ONNX file against config.json: names, dtypes, and every size that both state.

import { showName } from "../../checkpoint/fields.ts";
import { NfcError } from "../../errors.ts";
import type { OnnxStructure, OnnxValue } from "../../formats/onnx/structure.ts";
import { ONNX_DATA_TYPE } from "../../graph/ops.ts";
import { quoteUntrusted } from "../../io/printable.ts";
import type { ModelConfig } from "../../model/config.ts";
import { isNarrowCache, listCacheParts } from "../../model/head-widths.ts";
import { EXPORT_AGAIN } from "./check-runnable.ts";

type FloatName = "float32" | "float16";
type Size = "n_layer" | "n_head" | "n_embd" | "n_positions" | "vocab_size";

/** dtypes of a model file's inputs and outputs. */
export interface ExportedTypes {
  cacheDtype: FloatName;
  logitsDtype: FloatName;
}

const CACHE = /^past_key_values\.(\d{1,6})\.(?:key|value)$/;
/** A graph without `position_ids` counts the positions itself. */
const REQUIRED_IDS: readonly string[] = ["input_ids", "attention_mask"];
const OPTIONAL_ID = "position_ids";

/** Dimensions that a message quotes. */
const MAX_SHOWN = 8;
const MISMATCHED = "config.json and ONNX files of different models are mixed: restore the set that belongs together";

/** The kind that a dimension must have: a number, or free to vary from call to call. */
type DimKind = "number" | "free" | "any";

/** A file under test; `configFile` names its config.json in messages. */
interface Subject {
  structure: OnnxStructure;
  config: ModelConfig;
  configFile: string;
}

/**
 * Inputs: input_ids, attention_mask and (optional) position_ids, int64 [B, T]; past_key_values.N.{key,value} [B, H, P, D].
 * Outputs: logits [B, T, V], present.N.{key,value} [B, H, P + T, D]. H, D and V are numbers, the others are free; so is
 * the width of a narrow cache, because some clients make the empty one as wide as GPT-2's.
 * @throws NfcError "mismatch" where file and configuration disagree, "unsupported" for other inputs, "invalid-file" for
 * anything else that does not fit
 */
export function checkSignature(structure: OnnxStructure, config: ModelConfig, configFile: string): ExportedTypes {
  const subject = { structure, config, configFile };
  const weights = new Set(structure.initializers.map(({ name }) => name)); // old exporters list them as inputs too
  const inputs = indexByName(structure.inputs.filter(({ name }) => !weights.has(name)));
  checkInputNames(subject, inputs);
  for (const name of REQUIRED_IDS) checkIds(subject, inputs, name);
  if (inputs.has(OPTIONAL_ID)) checkIds(subject, inputs, OPTIONAL_ID);
  const outputs = indexByName(structure.outputs);
  const cacheDtype = checkCaches(subject, inputs, "past_key_values");
  const present = checkCaches(subject, outputs, "present");
  if (present !== cacheDtype) throw invalid(subject, `past_key_values are ${cacheDtype}, but present is ${present}`);
  const logits = checkRank(subject, outputs, "logits", ["free", "free", "number"]);
  checkAgreement(subject, "vocab_size", logits.dims[2] as number, "the vocabulary of the logits");
  checkPositions(subject);
  return { cacheDtype, logitsDtype: nameFloat(subject, logits) };
}

const indexByName = (values: readonly OnnxValue[]) => new Map(values.map((value) => [value.name, value]));

function checkInputNames(subject: Subject, inputs: ReadonlyMap<string, OnnxValue>): void {
  const names = [...inputs.keys()];
  const unsupported = (fact: string) =>
    new NfcError("unsupported", `${subject.structure.path}: ${fact}`, { hint: EXPORT_AGAIN });
  const layers = names.flatMap((name) => CACHE.exec(name)?.[1] ?? []).map(Number);
  if (layers.length === 0) throw unsupported("has no KV cache (inputs past_key_values.N.key and .value)");
  const known = [...REQUIRED_IDS, OPTIONAL_ID];
  const other = names.find((name) => !known.includes(name) && !CACHE.test(name));
  if (other !== undefined) throw unsupported(`wants an input ${quoteUntrusted(other)}, which nfc does not feed`);
  const last = layers.reduce((most, layer) => Math.max(most, layer), 0);
  checkAgreement(subject, "n_layer", last + 1, "the number of layers");
}

function checkIds(subject: Subject, inputs: ReadonlyMap<string, OnnxValue>, name: string): void {
  const { dtype } = checkRank(subject, inputs, name, ["free", "free"]);
  if (dtype !== ONNX_DATA_TYPE.int64) throw invalid(subject, `${name} is not int64`);
}

/** The dtype that all caches have. Some exporters name the sizes of `present` instead of stating them. */
function checkCaches(subject: Subject, values: ReadonlyMap<string, OnnxValue>, prefix: string): FloatName {
  const { config } = subject;
  const found = new Set<FloatName>();
  for (let layer = 0; layer < config.n_layer; layer++)
    for (const { part, width } of listCacheParts(config, layer)) {
      const name = `${prefix}.${layer}.${part}`;
      const narrow = isNarrowCache(config, width);
      const kinds: readonly DimKind[] =
        prefix === "present" ? ["any", "any", "any", "any"] : ["free", "number", "free", narrow ? "any" : "number"];
      const cache = checkRank(subject, values, name, kinds);
      const [, heads, , size] = cache.dims;
      if (typeof heads === "number") checkAgreement(subject, "n_head", heads, `the number of heads in ${name}`);
      if (typeof size === "number" && narrow) checkNarrow(subject, name, size, width);
      else if (typeof heads === "number" && typeof size === "number")
        checkAgreement(subject, "n_embd", heads * size, `the width of ${name}, ${heads} heads of ${size},`);
      found.add(nameFloat(subject, cache));
    }
  const [dtype = "float32", other] = found;
  if (other) throw invalid(subject, `${prefix} is ${dtype} in one place and ${other} in another`);
  return dtype;
}

/** @throws NfcError "mismatch" for keys or values of another rank than config.json states */
function checkNarrow({ structure, configFile }: Subject, name: string, found: number, rank: number): void {
  if (found === rank) return;
  const fact = `the heads of ${name} are ${found} wide, but ${rank} is their rank in ${configFile}`;
  throw new NfcError("mismatch", `${structure.path}: ${fact}`, { hint: MISMATCHED });
}

/** The one weight that shows n_positions, where the exporter has kept its name. */
function checkPositions(subject: Subject): void {
  const wpe = subject.structure.initializers.find(
    ({ name, dims }) => /(^|\.)wpe\.weight$/.test(name) && dims.length === 2,
  );
  if (!wpe) return;
  checkAgreement(subject, "n_positions", wpe.dims[0] as number, `the number of rows of ${quoteUntrusted(wpe.name)}`);
}

const showDim = (dim: number | string | null) => (typeof dim === "string" ? showName(dim) : (dim ?? "?"));

/** A value whose dimensions are numbers where they must be, and free where they vary from call to call. */
function checkRank(
  subject: Subject,
  values: ReadonlyMap<string, OnnxValue>,
  name: string,
  kinds: readonly DimKind[],
): OnnxValue & { dims: (number | string | null)[] } {
  const value = values.get(name);
  if (!value) throw invalid(subject, `${name} is missing`);
  const { dims } = value;
  const shown = dims === null ? "of no stated shape" : `[${dims.slice(0, MAX_SHOWN).map(showDim).join(", ")}]`;
  const expected = `[${kinds.map((kind) => ({ free: "a name", number: "a number", any: "any" })[kind]).join(", ")}]`;
  const fits =
    dims?.length === kinds.length &&
    dims.every((dim, i) => kinds[i] === "any" || (typeof dim === "number") === (kinds[i] === "number"));
  if (!dims || !fits) throw invalid(subject, `${name} is ${shown}, expected ${expected}`);
  return { ...value, dims };
}

function nameFloat(subject: Subject, { name, dtype }: OnnxValue): FloatName {
  if (dtype === ONNX_DATA_TYPE.float32) return "float32";
  if (dtype === ONNX_DATA_TYPE.float16) return "float16";
  throw invalid(subject, `${name} is neither float32 nor float16`);
}

function checkAgreement({ structure, config, configFile }: Subject, size: Size, found: number, what: string): void {
  if (found === config[size]) return;
  const fact = `${what} is ${found}, but ${size} is ${config[size]} in ${configFile}`;
  throw new NfcError("mismatch", `${structure.path}: ${fact}`, { hint: MISMATCHED });
}

function invalid({ structure }: Subject, fact: string): NfcError {
  return new NfcError("invalid-file", `${structure.path}: ${fact}`, { hint: EXPORT_AGAIN });
}
