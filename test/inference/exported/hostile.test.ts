// Exports that disagree with themselves or mean harm: each is refused with one line that names file and fact.
import { mkdirSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { NfcError } from "../../../src/errors.ts";
import { openExportedModel } from "../../../src/inference/exported/exported-model.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";
import {
  CONFIG,
  decoderProto,
  encoded,
  externalTensor,
  FLOAT,
  HALF,
  type ModelProto,
  refusalOf,
  value,
  writeChanged,
  writeFolder,
} from "./exported-fixture.ts";

const path = temporaryFolder("exported-hostile");
const folder = path("model");
const onnx = (name: string) => join(folder, "onnx", name);

beforeEach(() => rmSync(folder, { recursive: true, force: true }));

const written = (change?: (model: ModelProto) => void, config?: object) => writeChanged(folder, change, config);
const refusal = () => refusalOf(folder);

/** Replaces an input or output. */
const replace =
  (list: "input" | "output", name: string, elemType: number, dims: (number | string)[]) => (model: ModelProto) => {
    const values = model.graph[list];
    values[values.findIndex((one) => one.name === name)] = value(name, elemType, dims);
  };

it("the folder that the cases damage opens while it is whole", async () => {
  expect((await openExportedModel(written())).files.size).toBe(1);
});

describe("config.json against the graph", () => {
  it.each<[string, object, string]>([
    ["n_layer", { n_layer: 3 }, "the number of layers is 2, but n_layer is 3"],
    ["n_head", { n_head: 8 }, "the number of heads in past_key_values.0.key is 4, but n_head is 8"],
    ["n_embd", { n_embd: 64 }, "the width of past_key_values.0.key, 4 heads of 8, is 32, but n_embd is 64"],
    ["vocab_size", { vocab_size: 41 }, "the vocabulary of the logits is 40, but vocab_size is 41"],
    ["n_positions", { n_positions: 32 }, 'the number of rows of "wpe.weight" is 16, but n_positions is 32'],
  ])("a config.json with another %s than the graph is refused with both numbers", async (_, config, fact) => {
    written(() => {}, config);
    const { code, message } = await refusal();
    expect(code).toBe("mismatch");
    expect(message).toBe(`${onnx("model.onnx")}: ${fact} in ${join(folder, "config.json")}`);
  });

  it("a config.json with other sizes than the outputs present is refused", async () => {
    written(replace("output", "present.1.value", FLOAT, ["b", 4, "t", 16]));
    expect((await refusal()).message).toMatch(/the width of present\.1\.value, 4 heads of 16, is 64, but n_embd is 32/);
  });

  it("a file with more layers of caches than a call takes arguments is refused", async () => {
    written(({ graph }) => {
      const more = Array.from({ length: 150_000 }, (_, layer) => ({ name: `past_key_values.${layer + 2}.key` }));
      graph.input = graph.input.concat(more as typeof graph.input);
    });
    expect((await refusal()).message).toMatch(/the number of layers is 150002, but n_layer is 2/);
  });

  it("a config.json with another variant than nfc.json is refused", async () => {
    written(() => {}, { nfc_variant: "symmetric" });
    const record = {
      ...{
        format: "nfc/1",
        tool: { name: "nfc", version: "0" },
        variant: "dense",
        tie: null,
        command: [],
        history: [],
      },
      ...{ source: { path: "", files: [], parameters: 0 }, notes: [] },
    };
    writeFolder(folder, { "nfc.json": record });
    expect((await refusal()).message).toMatch(/the variant is symmetric, but nfc\.json says dense/);
  });
});

describe("inputs and outputs that do not fit", () => {
  it.each<[string, (model: ModelProto) => void, RegExp]>([
    ["no cache", ({ graph }) => graph.input.splice(3), /has no KV cache/],
    [
      "an unknown input",
      ({ graph }) => graph.input.push(value("use_cache_branch", 9, [1])),
      /wants an input "use_cache_branch"/,
    ],
    [
      "an input with an escape in its name",
      ({ graph }) => graph.input.push(value("\x1b[2J\n", 9, [1])),
      /input "\\u001b\[2J\\n"/,
    ],
    ["a layer missing", ({ graph }) => graph.input.splice(3, 2), /past_key_values\.0\.key is missing/],
    [
      "a layer beyond",
      ({ graph }) => graph.input.push(value("past_key_values.999999.key", 1, [])),
      /layers is 1000000, but n_layer is 2/,
    ],
    ["no input_ids", ({ graph }) => graph.input.splice(0, 1), /input_ids is missing/],
    ["no attention_mask", ({ graph }) => graph.input.splice(1, 1), /attention_mask is missing/],
    ["int32 ids", replace("input", "input_ids", 6, ["b", "t"]), /input_ids is not int64/],
    ["a fixed batch", replace("input", "input_ids", 7, [1, "t"]), /input_ids is \[1, t\], expected \[a name, a name\]/],
    ["ids of rank 3", replace("input", "position_ids", 7, ["b", "t", 1]), /position_ids is \[b, t, 1\]/],
    [
      "named heads",
      replace("input", "past_key_values.0.key", 1, ["b", "heads", "p", 8]),
      /key is \[b, heads, p, 8\], expected/,
    ],
    [
      "double caches",
      replace("input", "past_key_values.1.key", 11, ["b", 4, "p", 8]),
      /1\.key is neither float32 nor float16/,
    ],
    [
      "mixed caches",
      replace("input", "past_key_values.1.key", HALF, ["b", 4, "p", 8]),
      /is float32 in one place and float16/,
    ],
    [
      "other caches out than in",
      ({ graph }) => {
        for (const one of graph.output.slice(1)) one.type.tensorType.elemType = HALF;
      },
      /past_key_values are float32, but present is float16/,
    ],
    ["no logits", ({ graph }) => graph.output.splice(0, 1), /logits is missing/],
    ["logits of integers", replace("output", "logits", 7, ["b", "t", 40]), /logits is neither float32 nor float16/],
    ["a named vocabulary", replace("output", "logits", 1, ["b", "t", "vocab"]), /logits is \[b, t, vocab\]/],
    [
      "no shape",
      ({ graph }) => {
        delete graph.output[0]?.type.tensorType.shape;
      },
      /logits is of no stated shape/,
    ],
    ["present missing", ({ graph }) => graph.output.pop(), /present\.1\.value is missing/],
  ])("inputs and outputs that do not fit are refused: %s", async (_, change, message) => {
    written(change);
    expect((await refusal()).message).toMatch(message);
  });
});

describe("graphs that are never run", () => {
  it.each<[string, (model: ModelProto) => void, RegExp]>([
    [
      "If",
      ({ graph }) => graph.node.push({ opType: "If", attribute: [{ name: "then_branch", g: Uint8Array.of(1) }] }),
      /the op "If" holds a graph/,
    ],
    [
      "a foreign domain",
      ({ graph }) => graph.node.push({ opType: "Run", domain: "evil" }),
      /the op "Run" is of the foreign domain "evil"/,
    ],
    [
      "a training op",
      ({ graph }) => graph.node.push({ opType: "Adam", domain: "ai.onnx.preview.training" }),
      /foreign domain/,
    ],
    ["functions", (model) => Object.assign(model, { functions: [Uint8Array.of(1)] }), /defines functions/],
    ["sparse tensors", ({ graph }) => Object.assign(graph, { sparseInitializer: [Uint8Array.of(1)] }), /sparse/],
    [
      "a constant in another file",
      ({ graph }) =>
        graph.node.push({
          opType: "Constant",
          attribute: [{ name: "value", t: externalTensor("c", [1], { location: "model.onnx_data" }) }],
        }),
      /an attribute has its data in another file/,
    ],
    [
      "IR 14",
      (model) => Object.assign(model, { irVersion: 14 }),
      /IR version 14 and operator set 20; ONNX Runtime reads up to 13 and 26/,
    ],
    [
      "operator set 27",
      (model) => Object.assign(model, { opsetImport: [{ domain: "", version: 27 }] }),
      /operator set 27/,
    ],
    ["no operator set", (model) => Object.assign(model, { opsetImport: [] }), /names no ONNX operator set/],
    [
      "weights shorter than their shape",
      ({ graph }) => graph.initializer.push({ name: "w", dims: [8], dataType: 1, rawData: new Uint8Array(31) }),
      /tensor "w" has 31 bytes, its shape and dtype ask for 32/,
    ],
  ])("a graph is refused without being run: %s", async (_, change, message) => {
    written(change);
    expect((await refusal()).message).toMatch(message);
  });
});

describe("links and damaged files", () => {
  it("a model file or an onnx folder that is linked from elsewhere is refused", async () => {
    written();
    renameSync(onnx("model.onnx"), path("elsewhere.onnx"));
    symlinkSync(path("elsewhere.onnx"), onnx("model.onnx"));
    expect((await refusal()).message).toBe(`${onnx("model.onnx")}: is a link that leads out of ${folder}`);
    rmSync(onnx("model.onnx"));
    renameSync(path("elsewhere.onnx"), onnx("model.onnx"));
    renameSync(join(folder, "onnx"), path("elsewhere"));
    symlinkSync(path("elsewhere"), join(folder, "onnx"));
    expect((await refusal()).hint).toBe("copy the folder with its links followed: cp -rL");
    rmSync(path("elsewhere"), { recursive: true });
  });

  it("a folder in place of the model file and a circular link are refused", async () => {
    written();
    rmSync(onnx("model.onnx"));
    mkdirSync(onnx("model.onnx"));
    expect((await refusal()).message).toMatch(/model\.onnx: this is a folder, a file is expected/);
    rmSync(onnx("model.onnx"), { recursive: true });
    symlinkSync("model.onnx", onnx("model.onnx"));
    expect((await refusal()).message).toMatch(/too many symbolic links/);
  });

  it("a model file that is cut anywhere is refused", async () => {
    written();
    const size = encoded(decoderProto()).byteLength;
    for (let length = size - 1; length >= 0; length -= 7) {
      truncateSync(onnx("model.onnx"), length);
      expect((await refusal()).code).toMatch(/invalid-file|mismatch|unsupported/);
    }
  });

  it("a model file with wrong bytes anywhere opens with the numbers of config.json or is refused", async () => {
    written();
    const content = encoded(decoderProto());
    const spoil = fc.array(fc.tuple(fc.nat(content.byteLength - 1), fc.nat(255)), { minLength: 1, maxLength: 3 });
    const outcomes = new Set<string>();
    await fc.assert(
      fc.asyncProperty(spoil, async (changes) => {
        const bytes = Uint8Array.from(content);
        for (const [at, byte] of changes) bytes[at] = byte;
        writeFileSync(onnx("model.onnx"), bytes);
        try {
          expect((await openExportedModel(folder)).rawConfig).toEqual(CONFIG);
          outcomes.add("opened");
        } catch (error) {
          if (!(error instanceof NfcError)) throw error;
          expect(error.message).not.toMatch(/\p{Cc}/u);
          outcomes.add("refused");
        }
      }),
      { numRuns: 500 },
    );
    expect([...outcomes].sort()).toEqual(["opened", "refused"]);
  });
});
