// Where the page runs a model, and with which file: by the adapter, the files, and what the address asks for.
import { describe, expect, it } from "vitest";

/** A module of the page, which has no types. */
const { choose, nameFile, readAdapter } = await import(
  new URL("../../assets/page/choose-device.js", import.meta.url).href
);

const GPU = { name: "acme one", half: true, software: false };
const FULL = { ...GPU, half: false };
const SOFTWARE = { ...FULL, software: true };
const AGAIN = "export it again";

const file = (precision: string, dtype = precision, halfFloats = false, webgpuAdvice: string | null = null) => ({
  ...{ precision, dtype, halfFloats, webgpuAdvice },
});
const INT8 = file("int8", "q8", false, "slow there");
const ALL = {
  precisions: [file("fp32"), INT8, file("q4"), file("q4f16", "q4f16", true)],
  preferred: { wasm: "int8", webgpu: { half: "q4f16", full: "q4" } },
};
/** As an older version wrote q4: with tables in float16. */
const OLD = {
  precisions: [file("fp32"), INT8, file("q4", "q4", true, AGAIN)],
  preferred: { wasm: "int8", webgpu: { half: "q4", full: "fp32" } },
};
const ONLY_INT8 = { precisions: [INT8], preferred: { wasm: "int8", webgpu: { half: null, full: null } } };

function chosen(adapter: object | null, info: object = ALL, device: string | null = null, dtype: string | null = null) {
  const { file, ...rest } = choose({ device, dtype }, adapter, info);
  return { ...rest, precision: file.precision };
}

describe("without a choice", () => {
  it.each([
    [GPU, "webgpu", "q4f16", "WebGPU on acme one, which has 16-bit floats (shader-f16)"],
    [FULL, "webgpu", "q4", "WebGPU on acme one, which has no 16-bit floats (shader-f16)"],
    [SOFTWARE, "wasm", "int8", "WebAssembly, as this browser's WebGPU adapter, acme one, is software"],
    [null, "wasm", "int8", "WebAssembly, as this browser has no WebGPU adapter"],
  ])("%o takes %s with %s", (adapter, device, precision, why) => {
    expect(chosen(adapter)).toEqual({ device, precision, why, notes: [] });
  });

  it("a folder of int8 alone runs in WebAssembly on any adapter", () => {
    const why = "WebAssembly, as no file of this model is one for this WebGPU adapter";
    for (const adapter of [GPU, FULL]) expect(chosen(adapter, ONLY_INT8)).toMatchObject({ device: "wasm", why });
  });

  it("an older q4 runs where there are 16-bit floats, and else another file, with a note how to export it again", () => {
    expect(chosen(GPU, OLD)).toMatchObject({ device: "webgpu", precision: "q4", notes: [] });
    const note = `the WebGPU adapter has no 16-bit floats (shader-f16), which q4 needs; ${AGAIN}`;
    expect(chosen(FULL, OLD)).toMatchObject({ device: "webgpu", precision: "fp32", notes: [note] });
    const alone = {
      precisions: OLD.precisions.slice(1),
      preferred: { ...OLD.preferred, webgpu: { half: "q4", full: null } },
    };
    expect(chosen(FULL, alone)).toMatchObject({ device: "wasm", precision: "int8", why: `WebAssembly, as ${note}` });
  });
});

describe("with a choice in the address", () => {
  it("WebAssembly is taken beside a GPU", () => {
    expect(chosen(GPU, ALL, "wasm")).toMatchObject({
      device: "wasm",
      precision: "int8",
      why: "WebAssembly, as chosen",
    });
    expect(chosen(GPU, ALL, "wasm", "q4")).toMatchObject({ device: "wasm", precision: "q4", notes: [] });
  });

  it("WebGPU is taken on a software adapter", () => {
    expect(chosen(SOFTWARE, ALL, "webgpu")).toMatchObject({ device: "webgpu", precision: "q4", notes: [] });
    expect(chosen(SOFTWARE, ALL, "webgpu", "fp32")).toMatchObject({ device: "webgpu", precision: "fp32" });
  });

  it("a file alone goes where it is fast, by either of its names", () => {
    for (const name of ["q8", "int8"])
      expect(chosen(GPU, ALL, null, name)).toMatchObject({ device: "wasm", precision: "int8" });
    expect(chosen(GPU, ALL, null, "fp32")).toMatchObject({ device: "webgpu", precision: "fp32" });
    expect(chosen(FULL, ALL, null, "q4f16")).toMatchObject({ device: "wasm", precision: "q4f16" });
  });

  it("int8 on WebGPU is taken, and said to be slow", () => {
    expect(chosen(GPU, ALL, "webgpu", "q8")).toMatchObject({
      device: "webgpu",
      precision: "int8",
      notes: ["slow there"],
    });
  });

  it("a file of mixed bits, whose dtype is that of fp32, goes by its precision", () => {
    const mixed = { ...file("mixed", "fp32"), name: "model_mixed" };
    const both = { ...ALL, precisions: [mixed, ...ALL.precisions] };
    expect(chosen(null, both, "wasm", nameFile(mixed))).toMatchObject({ precision: "mixed", notes: [] });
    expect(chosen(null, both, "wasm", "fp32")).toMatchObject({ precision: "fp32", notes: [] });
  });

  it("what cannot be had is said, and replaced", () => {
    const half = "the WebGPU adapter has no 16-bit floats (shader-f16), which q4f16 needs";
    expect(chosen(FULL, ALL, "webgpu", "q4f16")).toMatchObject({ device: "webgpu", precision: "q4", notes: [half] });
    const none = "this browser has no WebGPU adapter";
    expect(chosen(null, ALL, "webgpu", "q4")).toMatchObject({ device: "wasm", precision: "q4", notes: [none] });
    expect(chosen(null, ALL, "gpu", "q5").notes).toEqual([
      "device=gpu is none of webgpu, wasm",
      "dtype=q5 is none of fp32, q8, q4, q4f16",
    ]);
    expect(chosen(GPU, ALL, "constructor").notes).toEqual(["device=constructor is none of webgpu, wasm"]);
  });
});

describe("the adapter of a browser", () => {
  const gpu = (adapter: object | null) => ({ requestAdapter: () => Promise.resolve(adapter) });
  const info = { vendor: "acme", architecture: "one", description: "" };

  it("is read by name, 16-bit floats, and whether it is software, in new browsers and old", async () => {
    const features = new Set(["shader-f16"]);
    expect(await readAdapter(gpu({ features, info }))).toEqual(GPU);
    expect(await readAdapter(gpu({ features: new Set(), info: { ...info, isFallbackAdapter: true } }))).toEqual(
      SOFTWARE,
    );
    expect(await readAdapter(gpu({ features: new Set(), info, isFallbackAdapter: true }))).toEqual(SOFTWARE);
    expect(await readAdapter(gpu({ features, info: { ...info, description: "Acme 1 Pro" } }))).toMatchObject({
      name: "Acme 1 Pro",
    });
    expect(await readAdapter(gpu({ features }))).toMatchObject({ name: "an adapter without a name" });
  });

  it("is null where there is none, or none is given", async () => {
    expect(await readAdapter(undefined)).toBeNull();
    expect(await readAdapter(gpu(null))).toBeNull();
    expect(await readAdapter({ requestAdapter: () => Promise.reject(new Error("lost")) })).toBeNull();
  });
});
