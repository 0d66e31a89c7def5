// Test runner settings: three projects, one closing line that any CI can read, coverage thresholds, no network.
import { defineConfig } from "vitest/config";
import LongFirstSequencer from "./test/long-first-sequencer.ts";
import { SOFTWARE_GPU } from "./test/support/webgpu.ts";

/** Tests that load an inference runtime, start a process or open a browser; all others are the unit project. */
const RUNTIME = [
  "api",
  "check/{attention-growth,check-sizes}",
  "checkpoint/{companion-files,config-traps,foreign-formats}",
  "checkpoint/encoding/encode-pool",
  "cli/**/*",
  "convert/{axes,convert,make-smaller}",
  "convert/attention/{dependent-columns,low-rank,spectra,tie-pool,value-layers}",
  "convert/statistics/{attention-blocks,calibration,divergence}",
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
  "fixture",
  "formats/onnx/reader",
  "fuzz/fuzz",
  "graph/**/*",
  "inference/devices/*",
  "inference/{layerwise,mixed-bits}",
  "inference/exported/{exported-model,wrong-outputs}",
  "inference/generate/draft/decode-drafted",
  "inference/generate/{decoder,draw-windows,generate,place-model,precisions}",
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

const globalSetup = "test/support/shared-folder.ts";

export default defineConfig({
  test: {
    maxWorkers: "100%", // vitest's own default leaves a core idle, which is half of them where there are two
    sequence: { sequencer: LongFirstSequencer },
    reporters: ["default", "./test/closing-line-reporter.ts"],
    // What takes long, and is not the only test of its command or of its refusals: `npm run test:slow` runs these alone.
    tags: [{ name: "slow", description: "Long runs: left out by npm test, run by npm run test:slow and .ci/run." }],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // Some tests load onnxruntime-node without nfc, which would report.
    env: { NO_COLOR: "1", ORT_DISABLE_TELEMETRY: "1" },
    setupFiles: ["test/support/equal-bytes.ts"],
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
          setupFiles: ["test/support/equal-bytes.ts", "test/support/no-runtime.ts"],
        },
      },
      { extends: true, test: { name: "runtime", include: RUNTIME, globalSetup } },
      { extends: true, test: { name: "webgpu", include: WEBGPU, globalSetup, env: SOFTWARE_GPU ?? {} } },
    ],
  },
});
