// The compiled command line as a process: exit codes, streams, signals, threads, and folders it runs in.
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { TOOL } from "../../src/version.ts";
import { compileCli, start } from "../support/compiled-cli.ts";
import { converted, digest, MODEL, TEXT } from "../support/fixture.ts";
import { tinyTensors, writeCheckpoint } from "../support/make-checkpoint.ts";
import { SLOW } from "../support/slow.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("process");
let bin = "";
let count = 0;

beforeAll(async () => {
  mkdirSync(path("package"));
  bin = await compileCli(path("package"));
});

function folder(): string {
  const made = path(`f${count++}`);
  mkdirSync(made);
  return made;
}

describe("the nfc process", () => {
  it("the process prints its version and nothing else", async () => {
    expect(await start(bin, ["--version"]).ending).toEqual({
      code: 0,
      signal: null,
      stdout: `${TOOL.version}\n`,
      stderr: "",
    });
  });

  it("the process exits with 2 on wrong usage and on bad input", async () => {
    expect(await start(bin, ["bogus"]).ending).toMatchObject({ code: 2, stdout: "" });
    const bad = await start(bin, ["inspect", "/nowhere"]).ending;
    expect(bad).toMatchObject({
      code: 2,
      stdout: "",
      stderr: "nfc: /nowhere: no such file or folder; check the path\n",
    });
  });

  it("the demo finds its fixture from any folder, and writes below that folder", SLOW, async () => {
    const cwd = folder();
    const { code, stdout, stderr } = await start(bin, ["demo"], { cwd }).ending;
    expect({ code, ...(code !== 0 && { stderr }) }).toEqual({ code: 0 });
    expect(stdout).toContain("128,768");
    expect(readdirSync(join(cwd, "out/demo")).sort()).toEqual(["cache", "nf", "nf-distilled", "nf-onnx"]);
  });

  it("worker threads tie to the same bytes as one thread", async () => {
    const parent = folder();
    const options = { variant: "symmetric", strategy: "spectral" } as const;
    const { record } = await converted({ ...options, output: join(parent, "here"), threads: 1 });
    const args = ["convert", MODEL, "-o", join(parent, "there"), "--variant", "symmetric", "--threads", "2"];
    expect(await start(bin, args).ending).toMatchObject({ code: 0 });
    const [here, there] = [digest(join(parent, "here")), digest(join(parent, "there"))];
    expect(there["model.safetensors"]).toBe(here["model.safetensors"]);
    expect(record.tie?.errors.flat().length).toBe(8);
  });

  it("an error in a worker thread names the bad head", async () => {
    const tensors = tinyTensors();
    const bytes = tensors.find(({ name }) => name === "h.1.attn.c_attn.weight")?.bytes as Uint8Array;
    new DataView(bytes.buffer, bytes.byteOffset).setFloat32(4 * 5, Number.NaN, true); // row 0, column 5: head 1 of width 4
    const model = await writeCheckpoint(join(folder(), "nan"), { tensors });
    const { code, stderr } = await start(bin, ["convert", model, "-o", `${model}-out`, "--threads", "2"]).ending;
    expect(code).toBe(2);
    expect(stderr).toContain("nfc: h.1.attn: head 1: Q or K is not finite; the checkpoint is damaged\n");
  });

  it("the process survives a reader that closes its output early", async () => {
    const { process: child, ending } = start(bin, ["report", MODEL, MODEL, "--json"]);
    child.stdout?.destroy();
    const { code, stderr } = await ending;
    expect(stderr).not.toContain("EPIPE");
    expect(code).toBe(0);
  });
});

describe("a signal to the nfc process", () => {
  // Large enough that much is left to do when the sign shows.
  beforeAll(async () => {
    await writeCheckpoint(path("large"), { width: 64, heads: 4, layers: 6, vocab: 20_000, positions: 64 });
  });
  const COMMANDS: [string, (out: string) => string[], string][] = [
    ["convert", (out) => ["convert", MODEL, "-o", out, "--calibration", TEXT], "tying"],
    ["export", (out) => ["export", path("large"), "-o", out], "fp32: writing"],
  ];

  it.each(COMMANDS)("SIGINT while %s runs exits with 130 and leaves nothing", async (_, args, sign) => {
    const parent = folder();
    const running = start(bin, args(join(parent, "out")));
    await running.shows(sign);
    running.process.kill("SIGINT");
    const { code, stdout, stderr } = await running.ending;
    expect({ code, stdout }).toEqual({ code: 130, stdout: "" });
    expect(stderr.endsWith("nfc: interrupted; nothing was written\n")).toBe(true);
    expect(readdirSync(parent)).toEqual([]);
  });

  it("SIGTERM ends a demo with exit code 130", async () => {
    const cwd = folder();
    const running = start(bin, ["demo"], { cwd });
    await running.shows("tying");
    running.process.kill("SIGTERM");
    expect((await running.ending).code).toBe(130);
  });
});
