// Test runner settings: one closing line that any CI can read, coverage thresholds, no network.
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
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
  },
});
