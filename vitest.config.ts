// Test runner settings: three projects, one closing line that any CI can read, coverage thresholds, no network.
import { defineConfig } from "vitest/config";
import { SOFTWARE_GPU } from "./test/support/webgpu.ts";

/** Tests that load an inference runtime, start a process or open a browser; all others are the unit project. */
const RUNTIME = [
  "api",
  "check/check-sizes",
  "checkpoint/{companion-files,config-traps,foreign-formats}",
  "cli/**/*",
  "convert/{attention-blocks,axes,calibration,convert,low-rank,make-smaller,spectra,tie-pool,value-layers}",
  "distill/{average,diverge,dry-run,extension,forms,half-precision,kernels,phases,pretrain,quantize,resume}",
  "distill/{script-files,train}",
  "convert/plan/{plan-model,vocabulary-axis}",
  "distill/device/*",
  "distill/step/{losses,noise-graph,teacher-losses,training-step,transfer-step,transfer-streams}",
  "distill/teacher/*",
  "docs",
  "examples",
  "export/card/browser-snippet",
  "export/{*,gguf/*,hf/*}",
  "export/onnx/{check-weights,narrow-cache,noise,onnx-export,onnx-file,precisions,verify}",
  "export/quantize/calibrate",
  "export/quantize/mixed",
  "fixture",
  "formats/onnx/reader",
  "fuzz/fuzz",
  "graph/**/*",
  "inference/devices/*",
  "inference/layerwise",
  "inference/exported/{exported-model,wrong-outputs}",
  "inference/generate/draft/decode-drafted",
  "inference/generate/{decoder,generate,place-model,precisions}",
  "inference/score/{cut-vocabulary,evaluate,evaluate-trained,precisions}",
  "io/{disk-full,kill}",
  "model/{attention,export-size,gpt2}",
  "report/{comparison/comparison,page/page}",
  "report/weigh/header-tensors",
  "serve/*",
  "tasks/train/*",
].map((name) => `test/${name}.test.ts`);

/** Tests of ONNX Runtime's WebGPU provider: a software driver needs an environment that is there when the process starts. */
const WEBGPU = ["test/webgpu/**/*.test.ts"];

export default defineConfig({
  test: {
    reporters: ["default", "./test/closing-line-reporter.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Some tests load onnxruntime-node without nfc, which would report.
    env: { NO_COLOR: "1", ORT_DISABLE_TELEMETRY: "1" },
    coverage: {
      provider: "v8",
      include: ["src/**"],
      exclude: ["src/**/*.as.ts"], // AssemblyScript
      thresholds: { lines: 90, functions: 90, branches: 80, statements: 90 },
    },
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          pool: "threads", // starts faster than a process a file
          include: ["test/**/*.test.ts"],
          exclude: [...RUNTIME, ...WEBGPU],
          setupFiles: ["test/support/no-runtime.ts"],
        },
      },
      { extends: true, test: { name: "runtime", include: RUNTIME } },
      { extends: true, test: { name: "webgpu", include: WEBGPU, env: SOFTWARE_GPU ?? {} } },
    ],
  },
});
