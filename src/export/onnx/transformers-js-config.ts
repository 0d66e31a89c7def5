// Makes the part of config.json from which transformers.js learns which file to take and how it is stored.
import {
  isHalf,
  nameModelFile,
  PRECISIONS,
  type Precision,
  toTransformersJsDtype,
  toTransformersJsName,
} from "../../model/precision.ts";
import type { OnnxFile } from "./onnx-file.ts";

/** The order in which a runtime without a choice of its own should load: small and close to float32 first. */
const PREFERENCE: readonly Precision[] = ["int8", "q4", "mixed", "uint8", "q4f16", "fp16", "fp32", "q2"];

/**
 * `transformers.js_config`: how many data files each model has (browsers cannot look), the dtype where transformers.js's
 * own choice (q8 in WebAssembly, fp32 elsewhere) is not there, and for its version 3 the dtype of the cache. null when
 * there is nothing to say.
 */
export function makeTransformersJsConfig(files: readonly OnnxFile[]): Record<string, unknown> | null {
  const has = (precision: Precision) => files.some((file) => file.precision === precision);
  const external = files.filter(({ files: [, ...data] }) => data.length > 0);
  const half = PRECISIONS.filter((precision) => isHalf(precision) && has(precision));
  // A mixed file has no dtype of its own: it is what "fp32" means for a model of its name.
  const dtype = PREFERENCE.find((precision) => has(precision) && toTransformersJsName(precision) === null) ?? "mixed";
  const config = {
    ...(external.length > 0 && {
      use_external_data_format: Object.fromEntries(
        external.map(({ precision, files: [, ...data] }) => [nameModelFile(precision), data.length]),
      ),
    }),
    ...(!(has("fp32") && has("int8")) && { dtype: toTransformersJsDtype(dtype) }),
    ...(half.length > 0 && {
      kv_cache_dtype: Object.fromEntries(half.map((precision) => [toTransformersJsDtype(precision), "float16"])),
    }),
  };
  return Object.keys(config).length > 0 ? config : null;
}

/** The file that a runtime without a choice of its own should load; null without any. */
export function choosePreferredFile<T extends { precision: Precision }>(files: readonly T[]): T | null {
  const ranked = PREFERENCE.flatMap((precision) => files.filter((file) => file.precision === precision));
  return ranked[0] ?? null;
}
