// External data of exports: only the model's own files, inside the folder, whole.
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { readOnnxStructure } from "../../../src/formats/onnx/reader.ts";
import { openExportedModel } from "../../../src/inference/exported/exported-model.ts";
import { locateData } from "../../../src/inference/exported/external-data.ts";
import { failureOf } from "../../support/failure.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";
import { externalTensor, type ModelProto, refusalOf, writeChanged } from "./exported-fixture.ts";

const path = temporaryFolder("exported-data");
const folder = path("model");
const onnx = (name: string) => join(folder, "onnx", name);

beforeEach(() => rmSync(folder, { recursive: true, force: true }));

const written = (change?: (model: ModelProto) => void, config?: object) => writeChanged(folder, change, config);
const refusal = () => refusalOf(folder);

describe("external data of an export", () => {
  /** A folder whose one weight has 64 bytes at 16 in `location`. */
  const withData = (location: string, entries: Record<string, string> = { offset: "16", length: "64" }) =>
    written(({ graph }) => graph.initializer.push(externalTensor("w", [16], { location, ...entries })));
  const data = (bytes: number, name = "model.onnx_data") => writeFileSync(onnx(name), new Uint8Array(bytes));

  it("external data inside the folder opens when it is long enough, split or linked within the folder", async () => {
    withData("model.onnx_data_1");
    data(80, "model.onnx_data_1");
    const [file] = (await openExportedModel(folder)).files.values();
    expect(file?.data).toEqual([onnx("model.onnx_data_1")]);
    renameSync(onnx("model.onnx_data_1"), join(folder, "weights.bin"));
    symlinkSync("../weights.bin", onnx("model.onnx_data_1"));
    const [linked] = (await openExportedModel(folder)).files.values();
    expect(linked?.bytes).toBe(file?.bytes);
  });

  it.each([
    "/etc/passwd",
    "../model.onnx_data",
    "..\\model.onnx_data",
    "C:\\model.onnx_data",
    "\\\\host\\share",
    "sub/../../x",
  ])("external data at %s is refused because it leaves the folder", async (location) => {
    withData(location);
    writeFileSync(join(folder, "model.onnx_data"), new Uint8Array(80));
    const { code, message } = await refusal();
    expect(code).toBe("invalid-file");
    expect(message).toMatch(/: external data ".*" leaves the model's folder$/);
  });

  it.each([
    "other.bin",
    "model.onnx_data_01",
    "model.onnx_data/x",
    "./model.onnx_data",
    "model_fp16.onnx_data",
    "config.json",
  ])("external data at %j is refused because it is not the model's own", async (location) => {
    withData(location);
    data(80);
    expect((await refusal()).message).toMatch(/is not model\.onnx_data or model\.onnx_data_N$/);
  });

  it.each([
    ["a NUL", "model.onnx_data\0", "is no name of a file"],
    ["a line break", "model\n.onnx_data", "is no name of a file"],
    ["a direction mark", "model\u202e.onnx_data", "is no name of a file"],
    ["a backslash", "sub\\model.onnx_data", "is no name of a file"],
    ["a stream of a file", "model.onnx_data:x", "is an address, not the name of a file"],
    ["an address", "https://example.org/model.onnx_data", "is an address, not the name of a file"],
    ["the model", "model.onnx", "is the model file itself"],
    ["the model by another name", "./model.onnx", "is the model file itself"],
  ])(
    "external data is refused under any name that is none of a file beside the model: %s",
    async (_, location, fact) => {
      withData(location);
      expect((await refusal()).message).toMatch(new RegExp(`"w": external data ".*" ${fact}$`));
      const structure = () => readOnnxStructure(onnx("model.onnx"));
      const error = await failureOf(async () => locateData(await structure(), folder, { anyName: true }));
      expect(error).toMatchObject({ code: "invalid-file", message: (await refusal()).message });
    },
  );

  it.each<[string, [number, number], [number, number], boolean]>([
    ["follow each other", [0, 64], [64, 64], true],
    ["are one", [0, 64], [0, 64], true],
    ["overlap by a byte", [0, 64], [63, 64], false],
    ["lie within another", [0, 128], [64, 64], false],
  ])("external data of two tensors that %s", async (_, a, b, allowed) => {
    writeChanged(folder, ({ graph }) => {
      for (const [name, [offset, length]] of Object.entries({ a, b }))
        graph.initializer.push(
          externalTensor(name, [length / 4], { location: "model.onnx_data", offset: `${offset}`, length: `${length}` }),
        );
    });
    data(128);
    if (allowed) expect((await openExportedModel(folder)).files.size).toBe(1);
    else expect((await refusal()).message).toMatch(/the external data of "a" and "b" overlap$/);
  });

  it.each<[string, string, string, () => void]>([
    ["is missing", "not-found", "no such file or folder", () => {}],
    ["is too short", "invalid-file", "has 79 bytes, model.onnx needs 80", () => data(79)],
    ["is a folder", "invalid-file", "is no regular file", () => mkdirSync(onnx("model.onnx_data"))],
    [
      "is a link out of the folder",
      "invalid-file",
      `is a link that leads out of ${folder}`,
      () => {
        writeFileSync(path("secret"), new Uint8Array(80));
        symlinkSync(path("secret"), onnx("model.onnx_data"));
      },
    ],
  ])("external data that %s is refused", async (_, code, sentence, prepare) => {
    withData("model.onnx_data");
    prepare();
    const error = await refusal();
    expect([error.code, error.message]).toEqual([code, `${onnx("model.onnx_data")}: ${sentence}`]);
  });

  it("external data without a stated length has the length of the shape", async () => {
    withData("model.onnx_data", { offset: "16" });
    data(79);
    const { code, message } = await refusal();
    expect(code).toBe("invalid-file");
    expect(message).toContain("needs 80");
  });

  it("external data of another length than the shape's is refused", async () => {
    withData("model.onnx_data", { length: "68" });
    data(80);
    expect((await refusal()).message).toMatch(/tensor "w" has 68 bytes, its shape and dtype ask for 64/);
  });
});
