// Devices on a software adapter: nfc devices names it, --device auto passes it by, and models run on it where it is asked for.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { SOFTWARE } from "../../src/inference/devices/probe-devices.ts";
import { ok, refused } from "../support/cli.ts";
import { MODEL, TEXT } from "../support/fixture.ts";
import { SLOW } from "../support/slow.ts";
import { writeSst2 } from "../support/task-data.ts";
import { temporaryFolder } from "../support/temp-folder.ts";
import { SOFTWARE_GPU, WHY_NO_GPU } from "../support/webgpu.ts";

const path = temporaryFolder("webgpu-devices");
const QUICK = ["--threads", "1"];

describe.skipIf(SOFTWARE_GPU === null)(`a software adapter${WHY_NO_GPU}`, () => {
  it("is named by nfc devices, whose test takes seconds", { ...SLOW, timeout: 120_000 }, async () => {
    const { devices } = JSON.parse((await ok("devices", "--json", "-q")).stdout);
    const [cpu, webgpu] = ["cpu", "webgpu"].map((name) =>
      devices.find(({ device }: { device: string }) => device === name),
    );
    expect(webgpu).toMatchObject({ built: true, opens: true, verdict: SOFTWARE, step: null });
    expect(webgpu.products.ratio).toBeLessThan(0.1);
    expect(cpu.products.ratio).toBe(1);
    expect(cpu.step.ratio).toBe(1);
  });

  it("is passed by with --device auto, and the reason is said in one line", { timeout: 120_000 }, async () => {
    const line = ["generate", MODEL, "--prompt", "Anna", "-n", "4", ...QUICK];
    const [plain, chosen] = [await ok(...line), await ok(...line, "--device", "auto")];
    expect(chosen.stderr).toContain(`note: cpu: webgpu is ${SOFTWARE}\n`);
    expect(chosen.stdout).toBe(plain.stdout);
  });

  it("scores a text as the CPU does with --device webgpu", { timeout: 180_000 }, async () => {
    writeFileSync(path("short.txt"), readFileSync(TEXT, "utf8").slice(0, 100));
    const line = [
      "eval",
      MODEL,
      "--text",
      path("short.txt"),
      "--length",
      "16",
      "--no-record",
      "--json",
      "-q",
      ...QUICK,
    ];
    const [cpu, webgpu] = [await ok(...line), await ok(...line, "--device", "webgpu")].map(({ stdout }) =>
      JSON.parse(stdout),
    );
    expect(webgpu.tokens).toBe(cpu.tokens);
    expect(Math.abs(webgpu.perplexity / cpu.perplexity - 1)).toBeLessThan(1e-5);
  });

  it("refuses half precision before anything is written, having no such floats", { timeout: 120_000 }, async () => {
    const line = ["--device", "webgpu", "--device-precision", "fp16", ...QUICK];
    const fact = "webgpu: this adapter has no 16-bit floats (shader-f16); leave out --device-precision fp16";
    expect(await refused(["finetune", MODEL, "--data", TEXT, "-o", path("tuned"), ...line])).toBe(fact);
    const task = ["--tasks", "sst2", "--data", path("glue")];
    writeSst2(path("glue/SST-2"));
    expect(await refused(["glue", "--models", MODEL, ...task, "-o", path("cells"), ...line])).toBe(fact);
    for (const output of ["tuned", "tuned.run", "cells"]) expect(existsSync(path(output))).toBe(false);
  });

  it("fits a tie as the CPU does with --device webgpu", { ...SLOW, timeout: 180_000 }, async () => {
    const line = ["convert", MODEL, "--calibration", TEXT, "--calibration-tokens", "64", "--json", "-q", ...QUICK];
    const [cpu, webgpu] = [
      await ok(...line, "-o", path("cpu")),
      await ok(...line, "-o", path("webgpu"), "--device", "webgpu"),
    ].map(({ stdout }) => JSON.parse(stdout).tie.errors.flat() as number[]);
    expect(webgpu).toHaveLength(cpu?.length ?? 0);
    for (const [head, error] of (cpu as number[]).entries()) expect(webgpu?.[head]).toBeCloseTo(error, 4);
  });
});
