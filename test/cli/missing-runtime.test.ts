// Without onnxruntime-node, which is optional: commands that run models refuse before they write, all others work.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { beforeAll, describe, expect, it, vi } from "vitest";
import { nfc, ok } from "../support/cli.ts";
import { MODEL, TEXT } from "../support/fixture.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

vi.mock("onnxruntime-node", () => {
  throw new Error("Cannot find package 'onnxruntime-node'");
});

const path = temporaryFolder("missing");
const [tied, output] = [path("tied"), path("output")];

beforeAll(async () => {
  await ok("convert", MODEL, "-o", tied, "--quiet");
});

describe("without onnxruntime-node", () => {
  it.each([
    ["export --onnx", ["export", tied, "--onnx", "-o", output]],
    ["export --onnx --hf", ["export", tied, "--onnx", "--hf", "-o", output]],
    ["plan", ["plan", MODEL, "--calibration", TEXT, "-o", output]],
    ["convert --calibration", ["convert", MODEL, "--calibration", TEXT, "-o", output]],
    ["distill", ["distill", tied, "--teacher", MODEL, "--data", TEXT, "-o", output]],
    ["eval", ["eval", tied, "--text", TEXT]],
    ["generate", ["generate", tied, "--prompt", "Anna"]],
    ["demo", ["demo", "-o", output]],
  ])("nfc %s says in one line what is missing, before it writes or reads a model", async (_, args) => {
    const { code, stdout, stderr } = await nfc(args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toMatch(
      /^nfc: onnxruntime-node does not load: [^\n]+; run: npm install onnxruntime-node --ignore-scripts\n$/,
    );
    expect(readdirSync(path())).toEqual(["tied"]);
  });

  it("nfc report --html makes the page without attention maps, and says so in it and on stderr", async () => {
    const { stderr } = await ok("report", MODEL, tied, "--html", path("page.html"));
    expect(stderr).toMatch(/note: the page has no attention maps: onnxruntime-node does not load[^\n]+npm install/);
    const page = readFileSync(path("page.html"), "utf8");
    expect(page).toContain("Attention before and after</h2><p>Not shown: onnxruntime-node does not load");
    expect(page).toContain("What the noise has become");
  });

  it("nfc report --html --sentence '' asks for none, and says nothing", async () => {
    const { stderr } = await ok("report", MODEL, tied, "--html", path("plain.html"), "--sentence", "");
    expect(stderr).toBe("");
    expect(readFileSync(path("plain.html"), "utf8")).not.toContain("Attention before and after");
  });

  it.each([
    ["inspect", ["inspect", tied]],
    ["report", ["report", MODEL, tied]],
    ["export --hf", ["export", tied, "--hf", "-o", path("hf")]],
    ["check", ["check", "--config", "nfc.size.json", "--json"]],
  ])("nfc %s works", async (_, args) => {
    const { stdout } = await ok(...args);
    expect(stdout).not.toBe("");
    expect(existsSync(output)).toBe(false);
  });
});
