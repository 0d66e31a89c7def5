// The precisions of an exported model, and the file names and dtype names under which transformers.js loads them.

/**
 * fp16: products and cache in float16. int8: weights by output channel, activations by token at run time. uint8, q4 and
 * q2: weights in blocks of 8, 4 and 2 bits, activations in float32; q4f16: q4 with activations in float16. mixed: blocks
 * of a bit width for each matrix, within a budget of bytes.
 */
export const PRECISIONS = ["fp32", "fp16", "int8", "uint8", "mixed", "q4", "q4f16", "q2"] as const;
export type Precision = (typeof PRECISIONS)[number];

/**
 * transformers.js: `dtype` → suffix of the file; its "q8" is what a browser loads unless told otherwise. It knows no
 * mixed files: to it, model_mixed.onnx is the file without a suffix of a model of that name.
 */
const TRANSFORMERS_JS: Record<Precision, { dtype: string; suffix: string }> = {
  fp32: { dtype: "fp32", suffix: "" },
  fp16: { dtype: "fp16", suffix: "_fp16" },
  int8: { dtype: "q8", suffix: "_quantized" },
  uint8: { dtype: "uint8", suffix: "_uint8" },
  mixed: { dtype: "fp32", suffix: "_mixed" },
  q4: { dtype: "q4", suffix: "_q4" },
  q4f16: { dtype: "q4f16", suffix: "_q4f16" },
  q2: { dtype: "q2", suffix: "_q2" },
};

/** The file below `onnx/`: model_quantized.onnx for int8. */
export const nameModelFile = (precision: Precision): string => `model${TRANSFORMERS_JS[precision].suffix}.onnx`;

/** The `dtype` that makes transformers.js load it. */
export const toTransformersJsDtype = (precision: Precision): string => TRANSFORMERS_JS[precision].dtype;

/** The order in which a runtime on the CPU, WebAssembly too, should load: small and close to float32 first. */
export const CPU_ORDER: readonly Precision[] = ["int8", "q4", "mixed", "uint8", "q4f16", "fp16", "fp32", "q2"];

/**
 * The orders for WebGPU, on adapters with 16-bit floats (shader-f16) and on those without. int8 is in neither: WebGPU has
 * no kernels for its products, which the CPU would compute.
 */
export const WEBGPU_ORDER: Readonly<Record<"half" | "full", readonly Precision[]>> = {
  half: ["q4f16", "q4", "mixed", "fp16", "uint8", "fp32", "q2"],
  full: ["q4", "mixed", "uint8", "fp32", "q2"],
};

/** The first precision of an order that is there; null where none is. */
export const chooseFirst = (order: readonly Precision[], there: readonly Precision[]): Precision | null =>
  order.find((precision) => there.includes(precision)) ?? null;

/**
 * Whether a file reads its embedding in blocks (GatherBlockQuantized). In WebAssembly, only ONNX Runtime's build without
 * WebGPU has a kernel for that; transformers.js loads the one with WebGPU unless told otherwise.
 */
export const needsPlainBuild = (precision: Precision): boolean => !["fp32", "fp16", "int8"].includes(precision);

/** The `model_file_name` that transformers.js needs beside the dtype, for files that its dtypes do not name. */
export const toTransformersJsName = (precision: Precision): string | null =>
  precision === "mixed" ? "model_mixed" : null;

/** Whether the cache, and all products, are float16. */
export const isHalf = (precision: Precision): boolean => precision === "fp16" || precision === "q4f16";
