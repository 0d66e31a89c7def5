// What every command does alike: --quiet leaves stderr empty, and no output takes the place of its own source.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import { nfc } from "../support/cli.ts";
import { converted, MODEL, TEXT } from "../support/fixture.ts";
import { writeCheckpoint } from "../support/make-checkpoint.ts";
import { slowUnless } from "../support/slow.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("quiet");
let count = 0;
const fresh = () => path(`out-${count++}`);
const [tied, text] = [path("tied"), path("short.txt")];
const THREADS = ["--threads", "1"];

beforeAll(async () => {
  writeFileSync(text, readFileSync(TEXT, "utf8").slice(0, 3000));
  await converted({ output: tied, variant: "noise-distance", strategy: "calibrated", calibration: [text] });
});

const COMMANDS: Record<string, () => string[]> = {
  inspect: () => ["inspect", MODEL],
  plan: () => ["plan", MODEL, "--calibration", text, "--axes", "layers", "-o", fresh()],
  convert: () => ["convert", MODEL, "-o", fresh()],
  eval: () => ["eval", tied, "--text", text],
  export: () => ["export", tied, "-o", fresh(), "--gpt2", "--drop-noise"],
  report: () => ["report", MODEL, tied],
  demo: () => ["demo", "-o", fresh()],
};

describe("--quiet", () => {
  for (const [name, args] of Object.entries(COMMANDS))
    it(`--quiet leaves the stderr of ${name} empty, also on a terminal`, slowUnless(name !== "demo"), async () => {
      for (const tty of [false, true]) {
        const { code, stdout, stderr } = await nfc([...args(), "--quiet", ...THREADS], { tty });
        expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
        expect(stdout).not.toBe("");
      }
    });
});

it("nfc convert and export refuse an output in the place of its source, with --force as well", async () => {
  const model = path("own");
  await writeCheckpoint(model);
  for (const command of ["convert", "export"]) {
    const { code, stderr } = await nfc([command, model, "-o", model, "--force", "--quiet"]);
    expect(code).toBe(2);
    expect(stderr).toBe(
      `nfc: ${model}: holds ${model}/model.safetensors, from which this output is made; choose another output folder\n`,
    );
  }
  expect(readdirSync(model).sort()).toEqual(["config.json", "model.safetensors"]);
});
