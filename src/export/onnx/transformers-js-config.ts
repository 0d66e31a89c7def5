// Makes the part of config.json from which transformers.js learns which file to take and how it is stored.
import {
  CPU_ORDER,
  chooseFirst,
  isHalf,
  nameModelFile,
  PRECISIONS,
  type Precision,
  toTransformersJsDtype,
  WEBGPU_ORDER,
} from "../../model/precision.ts";
import type { OnnxFile } from "./onnx-file.ts";

/**
 * `transformers.js_config`: how many data files each model has (browsers cannot look), the dtype where transformers.js's
 * own choice (q8 in WebAssembly, fp32 elsewhere) is not there, the dtype on WebGPU where a smaller one than fp32 runs on
 * any adapter, and for its version 3 the dtype of the cache. null when there is nothing to say.
 */
export function makeTransformersJsConfig(files: readonly OnnxFile[]): Record<string, unknown> | null {
  const has = (precision: Precision) => files.some((file) => file.precision === precision);
  const external = files.filter(({ files: [, ...data] }) => data.length > 0);
  const half = PRECISIONS.filter((precision) => isHalf(precision) && has(precision));
  const onWebGpu = chooseFirst(
    WEBGPU_ORDER.full,
    files.map(({ precision }) => precision),
  ); // runs on any adapter
  const config = {
    ...(external.length > 0 && {
      use_external_data_format: Object.fromEntries(
        external.map(({ precision, files: [, ...data] }) => [nameModelFile(precision), data.length]),
      ),
    }),
    ...(!(has("fp32") && has("int8")) && { dtype: toTransformersJsDtype(CPU_ORDER.find(has) as Precision) }),
    ...(onWebGpu !== null &&
      onWebGpu !== "fp32" && { device_config: { webgpu: { dtype: toTransformersJsDtype(onWebGpu) } } }),
    ...(half.length > 0 && {
      kv_cache_dtype: Object.fromEntries(half.map((precision) => [toTransformersJsDtype(precision), "float16"])),
    }),
  };
  return Object.keys(config).length > 0 ? config : null;
}

/** The file that a runtime without a choice of its own should load; null without any. */
export function choosePreferredFile<T extends { precision: Precision }>(files: readonly T[]): T | null {
  const ranked = CPU_ORDER.flatMap((precision) => files.filter((file) => file.precision === precision));
  return ranked[0] ?? null;
}
