// Makes the part of config.json from which transformers.js learns which file to take and how it is stored.
import {
  CPU_ORDER,
  chooseFirst,
  isHalf,
  nameModelFile,
  needsPlainBuild,
  PRECISIONS,
  type Precision,
  toTransformersJsDtype,
  toTransformersJsName,
  WEBGPU_ORDER,
} from "../../model/precision.ts";
import type { OnnxFile } from "./onnx-file.ts";

/**
 * `transformers.js_config`: how many data files each model has (browsers cannot look), the dtype where transformers.js's
 * own choice (q8 in WebAssembly, fp32 elsewhere) is not there, that of a device which runs or wants another file, and for
 * its version 3 the dtype of the cache. null when there is nothing to say.
 */
export function makeTransformersJsConfig(files: readonly OnnxFile[]): Record<string, unknown> | null {
  const has = (precision: Precision) => files.some((file) => file.precision === precision);
  const external = files.filter(({ files: [, ...data] }) => data.length > 0);
  const half = PRECISIONS.filter((precision) => isHalf(precision) && has(precision));
  // A mixed file has no dtype of its own: it is what "fp32" means for a model of its name.
  const named = files.map(({ precision }) => precision).filter((precision) => toTransformersJsName(precision) === null);
  const devices = chooseForDevices(named);
  const dtype = chooseFirst(CPU_ORDER, named) ?? "mixed";
  const config = {
    ...(external.length > 0 && {
      use_external_data_format: Object.fromEntries(
        external.map(({ precision, files: [, ...data] }) => [nameModelFile(precision), data.length]),
      ),
    }),
    ...(!(has("fp32") && has("int8")) && { dtype: toTransformersJsDtype(dtype) }),
    ...(Object.keys(devices).length > 0 && { device_config: devices }),
    ...(half.length > 0 && {
      kv_cache_dtype: Object.fromEntries(half.map((precision) => [toTransformersJsDtype(precision), "float16"])),
    }),
  };
  return Object.keys(config).length > 0 ? config : null;
}

/** dtypes for browsers, where the file for all devices is none for one: the first that WebGPU, or WebAssembly, does run. */
function chooseForDevices(there: readonly Precision[]): Record<string, { dtype: string }> {
  const onWebGpu = chooseFirst(WEBGPU_ORDER.full, there); // by any adapter
  const general = chooseFirst(CPU_ORDER, there);
  const inWasm = chooseFirst(
    CPU_ORDER.filter((precision) => !needsPlainBuild(precision)),
    there,
  );
  const choose = (precision: Precision) => ({ dtype: toTransformersJsDtype(precision) });
  return {
    ...(onWebGpu !== null && onWebGpu !== "fp32" && { webgpu: choose(onWebGpu) }),
    ...(inWasm !== null && inWasm !== general && { wasm: choose(inWasm) }),
  };
}

/** The file that a runtime without a choice of its own should load; null without any. */
export function choosePreferredFile<T extends { precision: Precision }>(files: readonly T[]): T | null {
  const ranked = CPU_ORDER.flatMap((precision) => files.filter((file) => file.precision === precision));
  return ranked[0] ?? null;
}
