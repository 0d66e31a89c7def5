// The parsers that read files of strangers: each ends in a value or in one line that says what is wrong.
import { join } from "node:path";
import { readBaseline } from "../../src/check/baseline.ts";
import { readSizeConfig } from "../../src/check/size-config.ts";
import { readConfig } from "../../src/checkpoint/checkpoint.ts";
import { parseConfig, toHfConfig } from "../../src/checkpoint/config-file.ts";
import { ModelCache } from "../../src/checkpoint/hub/cache.ts";
import { readNfcRecord } from "../../src/checkpoint/nfc-record.ts";
import { resolveLocal } from "../../src/checkpoint/source.ts";
import { readPlan } from "../../src/convert/plan/plan-file.ts";
import { chooseStep } from "../../src/convert/plan/target.ts";
import { RunFolder, textStateSchema } from "../../src/distill/run-folder.ts";
import { JsonCursor } from "../../src/formats/json-strict.ts";
import { readOnnxStructure } from "../../src/formats/onnx/reader.ts";
import { parseHeader } from "../../src/formats/safetensors/header.ts";
import { openSafetensors } from "../../src/formats/safetensors/reader.ts";
import { parseShardIndex } from "../../src/formats/safetensors/shard-index.ts";
import { checkRunnable } from "../../src/inference/exported/check-runnable.ts";
import { openExportedModel } from "../../src/inference/exported/exported-model.ts";
import { locateData } from "../../src/inference/exported/external-data.ts";
import { readEndTokens } from "../../src/inference/generate/end-tokens.ts";
import { parseJson } from "../../src/io/json.ts";
import { UNPRINTABLE } from "../../src/io/printable.ts";
import { parseReport } from "../../src/report/report-schema.ts";
import { readOnnxTensors } from "../../src/report/weigh/header-tensors.ts";
import { findTask } from "../../src/tasks/glue-tasks.ts";
import { readTaskFile } from "../../src/tasks/task-file.ts";
import { CONFIG, changedProto, externalTensor } from "../support/decoder-proto.ts";
import { encodeSafetensors, tinyHfConfig, tinyModelConfig, tinyTensors } from "../support/make-checkpoint.ts";
import { encode, inMemory, ofFile } from "./make-parser.ts";
import type { Target } from "./target.ts";
import { BASELINE, GENERATION, PLAN, RECORD, REPORT, RUN, SIZES } from "./valid-files.ts";

const TENSORS = encodeSafetensors(tinyTensors({ layers: 1 }));
const HEADER = TENSORS.subarray(8, 8 + Number(Buffer.from(TENSORS).readBigUInt64LE(0)));
const INDEX = encode({ metadata: { total_size: 80 }, weight_map: { a: "m-1.safetensors", b: "x/m-2.safetensors" } });
const SCALAR = { dims: [1], dataType: 1, rawData: new Uint8Array(4) };
const ONNX = [
  changedProto(),
  changedProto(({ graph }) => {
    graph.initializer.push({ name: "w", dims: [2, 2], dataType: 1, rawData: new Uint8Array(16) });
    graph.initializer.push(externalTensor("v", [4], { location: "model.onnx_data", offset: "0", length: "16" }));
  }),
];

const WITH_GRAPH = changedProto(({ graph }) => {
  graph.node.push({ opType: "If", attribute: [{ name: "a", i: 1, g: Uint8Array.of(1), t: SCALAR }] });
});

/** Reads what a weighing of a file reads, then what a run of it would. */
async function readOnnx(file: string, folder: string): Promise<void> {
  const structure = await readOnnxStructure(file);
  readOnnxTensors(structure);
  await locateData(structure, folder, { anyName: true });
  checkRunnable(structure);
}

async function readAllTensors(file: string): Promise<void> {
  const reader = await openSafetensors(file);
  try {
    for (const name of reader.tensors.keys()) await reader.readF32(name);
  } finally {
    await reader.close();
  }
}

/** A strict text is JSON for everybody, with the same outermost keys. */
function readStrict(input: Uint8Array): void {
  const text = Buffer.from(input).toString();
  const cursor = new JsonCursor(text, "a text");
  const keys = new Set<string>();
  const keep = (key: string) => {
    keys.add(key);
    cursor.skip();
  };
  if (cursor.kind() === "object") cursor.object(keep);
  else cursor.skip();
  cursor.end();
  const value: unknown = JSON.parse(text);
  const others = typeof value === "object" && value !== null && !Array.isArray(value) ? Object.keys(value) : [];
  if (others.length !== keys.size || !others.every((key) => keys.has(key)))
    throw new Error("other keys than JSON.parse");
}

function parseOwnConfig(raw: unknown): void {
  const parsed = parseConfig(raw, "config.json");
  for (const note of parsed.notes) if (note.search(UNPRINTABLE) >= 0) throw new Error(`unprintable note ${note}`);
  toHfConfig(tinyModelConfig(), raw as Record<string, unknown>);
}

const CHECKPOINT_CONFIG = encode({ ...tinyHfConfig(), bos_token_id: 0, eos_token_id: [0, 1], id2label: { 0: "a" } });

export const PARSERS: readonly Target[] = [
  inMemory("safetensors-header", "json", [HEADER], (input) =>
    parseHeader(input, TENSORS.length - 8 - HEADER.length, "m"),
  ),
  ofFile("safetensors-file", ["model.safetensors", "safetensors"], [TENSORS], { read: readAllTensors }),
  inMemory("shard-index", "json", [INDEX], (input) => parseShardIndex(input, "m.safetensors.index.json")),
  inMemory("strict-json", "json", [HEADER, INDEX, CHECKPOINT_CONFIG], readStrict),
  inMemory("config", "json", [CHECKPOINT_CONFIG], (input) => parseOwnConfig(parseJson(input, "config.json"))),
  ofFile("config-file", ["config.json", "json"], [CHECKPOINT_CONFIG], { read: (_, folder) => readConfig(folder) }),
  ofFile("any-checkpoint", ["model.any", "bytes"], [TENSORS], {
    read: resolveLocal,
    refused: [ONNX[0] as Uint8Array, CHECKPOINT_CONFIG],
  }),
  ofFile("nfc-record", ["nfc.json", "json"], [encode(RECORD)], { read: (_, folder) => readNfcRecord(folder) }),
  ofFile("generation-config", ["generation_config.json", "json"], [encode(GENERATION)], {
    read: (_, folder) => readEndTokens({ folder, config: tinyModelConfig(), rawConfig: tinyHfConfig() }),
  }),
  ofFile("size-config", ["nfc.size.json", "json"], [encode(SIZES)], { read: (_, folder) => readSizeConfig(folder) }),
  ofFile("manifest", ["package.json", "json"], [encode({ name: "a", nfc: SIZES })], {
    read: (_, folder) => readSizeConfig(folder),
  }),
  ofFile("baseline", ["nfc.baseline.json", "json"], [encode(BASELINE)], { read: (file) => readBaseline(file) }),
  ofFile("plan", ["plan.json", "json"], [encode(PLAN)], {
    read: async (file) => chooseStep(await readPlan(file), { kind: "parameters", share: 0.7 }, file),
  }),
  ofFile("run", ["out.run/run.json", "json"], [encode(RUN)], {
    read: (_, folder) => new RunFolder(join(folder, "out"), textStateSchema).identity(),
  }),
  ofFile("onnx", ["model.onnx", "protobuf"], ONNX, {
    beside: { "model.onnx_data": new Uint8Array(16) },
    refused: [WITH_GRAPH],
    read: readOnnx,
  }),
  ofFile("exported-model", ["onnx/model.onnx", "protobuf"], ONNX, {
    beside: { "onnx/model.onnx_data": new Uint8Array(16), "config.json": encode(CONFIG) },
    read: (_, folder) => openExportedModel(folder),
  }),
  ofFile("exported-config", ["config.json", "json"], [encode(CONFIG)], {
    beside: { "onnx/model.onnx": ONNX[0] as Uint8Array },
    read: (_, folder) => openExportedModel(folder),
  }),
  ofFile("task-file", ["dev.tsv", "lines"], [Buffer.from("sentence\tlabel\nit is good\t1\nit is bad\t0\n")], {
    read: (_, folder) => readTaskFile(folder, "dev.tsv", findTask("sst2"), { onInvalid: () => {} }),
  }),
  ofFile("hub-index", [`snapshots/${"0".repeat(40)}/model.safetensors.index.json`, "json"], [INDEX], {
    read: (_, folder) => new ModelCache(folder).complete("0".repeat(40)),
  }),
  ofFile("hub-ref", ["refs/main", "bytes"], [Buffer.from("0".repeat(40))], {
    read: (_, folder) => new ModelCache(folder).complete("main"),
  }),
  inMemory("report", "json", [encode(REPORT)], (input) => parseReport(parseJson(input, "r.json"), "r.json")),
];
