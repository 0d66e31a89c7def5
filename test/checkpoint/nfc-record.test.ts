// nfc.json: what is written is read back; what does not fit is refused by name.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { formatNfcRecord, type NfcRecord, parseNfcRecord, readNfcRecord } from "../../src/checkpoint/nfc-record.ts";
import { failureOf } from "../support/failure.ts";

const SHA = "0".repeat(64);
const record: NfcRecord = {
  format: "nfc/1",
  tool: { name: "nfc", version: "0.1.0" },
  variant: "noise-per-head",
  tie: { strategy: "calibrated", calibration: { file: "train.txt", sha256: SHA, tokens: 512 }, errors: [[0.25, 0.5]] },
  source: { path: "base", files: [{ name: "model.safetensors", bytes: 10, sha256: SHA }], parameters: 7 },
  command: ["nfc", "convert", "base"],
  history: [{ step: "distill", tokens: 2048, losses: [3.5, 3.25] }],
  notes: ["prefix stripped"],
  perplexity: [{ file: "valid.txt", sha256: SHA, tokens: 100, perplexity: 87.4, source: 62.2 }],
};

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "nfc-record-"));
});
afterAll(() => rm(folder, { recursive: true }));

describe("the record nfc.json", () => {
  it("a record is read back as it was written, with all that a training step recorded", async () => {
    await writeFile(join(folder, "nfc.json"), formatNfcRecord(record));
    expect(await readNfcRecord(folder)).toEqual(record);
  });

  it("the record of a folder without nfc.json is null", async () => {
    expect(await readNfcRecord(join(folder, "nowhere"))).toBeNull();
  });

  it("a record needs neither tie nor perplexity", () => {
    const { perplexity: _, ...rest } = record;
    expect(parseNfcRecord({ ...rest, tie: null }, "nfc.json").tie).toBeNull();
  });

  it("a record of another format version asks for another version of the tool", async () => {
    const error = await failureOf(() => parseNfcRecord({ ...record, format: "nfc/2" }, "m/nfc.json"));
    expect(error.code).toBe("unsupported");
    expect(error.message).toBe('m/nfc.json: format "nfc/2" is not nfc/1');
  });

  it.each([
    ["variant", { ...record, variant: "tied" }],
    [
      "source.files.0.sha256",
      { ...record, source: { ...record.source, files: [{ name: "x", bytes: 1, sha256: "beef" }] } },
    ],
    ["source.parameters", { ...record, source: { ...record.source, parameters: 1.5 } }],
    ["tie.errors.0.0", { ...record, tie: { strategy: "mean", calibration: null, errors: [[-1]] } }],
    ["history.0.step", { ...record, history: [{}] }],
    ["format", { ...record, format: undefined }],
    ["content", []],
    ["content", null],
  ])("the refusal of a record names the field that does not fit: %s", async (field, raw) => {
    const error = await failureOf(() => parseNfcRecord(raw, "m/nfc.json"));
    expect(error.code).toBe("invalid-file");
    expect(error.message.startsWith(`m/nfc.json: ${field}: `)).toBe(true);
    expect(error.hint).toContain("delete it");
  });
});
