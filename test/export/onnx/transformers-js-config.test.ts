// What config.json tells transformers.js: the dtype to load where its own is missing, data files, the cache's dtype.
import { describe, expect, it } from "vitest";
import type { OnnxFile } from "../../../src/export/onnx/onnx-file.ts";
import { choosePreferredFile, makeTransformersJsConfig } from "../../../src/export/onnx/transformers-js-config.ts";
import { nameModelFile, PRECISIONS, type Precision } from "../../../src/model/precision.ts";

/** A file with so many data files beside it. */
function file(precision: Precision, data = 0): OnnxFile {
  const name = nameModelFile(precision);
  const suffixes = Array.from({ length: data }, (_, i) => (i === 0 ? "_data" : `_data_${i}`));
  const files = ["", ...suffixes].map((suffix) => `onnx/${name}${suffix}`);
  return { precision, files, weights: data > 0 ? "external" : "inline", verification: null };
}

describe("transformersJsConfig", () => {
  it("the config names no dtype where both default files of transformers.js exist", () => {
    expect(makeTransformersJsConfig([file("fp32"), file("int8")])).toBeNull();
    const more = makeTransformersJsConfig([file("int8"), file("uint8"), file("q4"), file("fp32")]);
    expect(Object.keys(more ?? {})).toEqual(["device_config"]);
  });

  it.each<[Precision[], string]>([
    [["fp32"], "fp32"],
    [["fp32", "uint8"], "uint8"],
    [["fp16", "q4f16"], "q4f16"],
    [["uint8", "q4", "q4f16"], "q4"],
    [["fp16", "int8"], "q8"],
    [["fp16"], "fp16"],
    [["mixed", "uint8"], "uint8"],
    [["mixed", "q2"], "q2"],
    [["mixed"], "fp32"],
  ])("the config of an export of %j names a dtype whose file exists: %s", (precisions, dtype) => {
    expect(makeTransformersJsConfig(precisions.map((precision) => file(precision)))).toMatchObject({ dtype });
  });

  it("the config gives the number of data files by model file, for files that have any", () => {
    expect(makeTransformersJsConfig([file("fp32", 3), file("fp16", 1), file("int8")])).toEqual({
      use_external_data_format: { "model.onnx": 3, "model_fp16.onnx": 1 },
      kv_cache_dtype: { fp16: "float16" },
    });
  });

  it("the config gives the cache's dtype of half-precision files, by the names of transformers.js", () => {
    const config = makeTransformersJsConfig(PRECISIONS.map((precision) => file(precision)));
    expect(config).toMatchObject({ kv_cache_dtype: { fp16: "float16", q4f16: "float16" } });
  });

  it.each<[Precision[], object | undefined]>([
    [["fp32", "int8"], undefined],
    [["fp32", "int8", "uint8"], { webgpu: { dtype: "uint8" } }],
    [PRECISIONS.filter((precision) => precision !== "fp32"), { webgpu: { dtype: "q4" } }],
    [["fp32", "q4"], { webgpu: { dtype: "q4" }, wasm: { dtype: "fp32" } }],
    [["fp16", "q4f16"], { wasm: { dtype: "fp16" } }],
    [["q4"], { webgpu: { dtype: "q4" } }],
  ])("the config of %j names the dtypes of devices that want another file: %j", (precisions, devices) => {
    const config = makeTransformersJsConfig(precisions.map((precision) => file(precision)));
    expect(config?.device_config).toEqual(devices);
  });
});

describe("preferredFile", () => {
  it("the preferred file is the first of int8, q4, mixed, uint8, q4f16, fp16, fp32, q2, whatever the order given", () => {
    const left = PRECISIONS.map((precision) => ({ precision }));
    const order: Precision[] = [];
    for (let best = choosePreferredFile(left); best; best = choosePreferredFile(left)) {
      order.push(best.precision);
      left.splice(left.indexOf(best), 1);
    }
    expect(order).toEqual(["int8", "q4", "mixed", "uint8", "q4f16", "fp16", "fp32", "q2"]);
  });

  it("an export without files has no preferred file", () => expect(choosePreferredFile([])).toBeNull());
});
