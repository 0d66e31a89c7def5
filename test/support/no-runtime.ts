// Set-up of the unit project: a unit test that loads an inference runtime, starts a process or opens a browser fails.
import { vi } from "vitest";

const refuse = vi.hoisted(() => (what: string) => () => {
  throw new Error(`a unit test ${what}: its file belongs to the runtime project (vitest.config.ts)`);
});

vi.mock("onnxruntime-node", refuse("loads onnxruntime-node"));
vi.mock("onnxruntime-web", refuse("loads onnxruntime-web"));
vi.mock("playwright-core", refuse("loads playwright-core"));
vi.mock("node:child_process", () => {
  const refusal = refuse("starts a process");
  const names = ["exec", "execFile", "execFileSync", "execSync", "fork", "spawn", "spawnSync"];
  return Object.fromEntries(names.map((name) => [name, refusal]));
});
