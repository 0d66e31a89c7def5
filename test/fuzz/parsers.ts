// The parsers that read files of strangers: each ends in a value or in one line that says what is wrong.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { readBaseline } from "../../src/check/baseline.ts";
import { readSizeConfig } from "../../src/check/size-config.ts";
import { readConfig } from "../../src/checkpoint/checkpoint.ts";
import { parseConfig, toHfConfig } from "../../src/checkpoint/config-file.ts";
import { ModelCache } from "../../src/checkpoint/hub/cache.ts";
import { readNfcRecord } from "../../src/checkpoint/nfc-record.ts";
import { resolveLocal } from "../../src/checkpoint/source.ts";
import { readTokenizer } from "../../src/checkpoint/tokenizer.ts";
import { readTokenizerSize } from "../../src/checkpoint/vocabulary-size.ts";
import { TokenCorpus } from "../../src/distill/data/token-cache.ts";
import { RunFolder, textStateSchema } from "../../src/distill/run-folder.ts";
import { NfcError } from "../../src/errors.ts";
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
import { readTextPieces } from "../../src/io/text.ts";
import { parseReport } from "../../src/report/report-schema.ts";
import { readOnnxTensors } from "../../src/report/weigh/header-tensors.ts";
import { findTask } from "../../src/tasks/glue-tasks.ts";
import { readTaskFile } from "../../src/tasks/task-file.ts";
import { CONFIG, changedProto, externalTensor } from "../support/decoder-proto.ts";
import { encodeSafetensors, tinyHfConfig, tinyModelConfig, tinyTensors } from "../support/make-checkpoint.ts";
import type { Format } from "./mutate.ts";
import type { Target } from "./target.ts";
import { BASELINE, GENERATION, RECORD, REPORT, RUN, SIZES } from "./valid-files.ts";

const FIXTURE = fileURLToPath(new URL("../../fixtures/tiny-gpt2/", import.meta.url));
const encode = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));

/** Refusals are NfcErrors of one printable line; another error is a fault. */
async function refuseOrRead(read: () => unknown): Promise<string | null> {
  try {
    await read();
    return null;
  } catch (error) {
    if (!(error instanceof NfcError)) throw error;
    return /[\r\n]/.test(error.message + (error.hint ?? "")) ? `two lines: ${JSON.stringify(error.message)}` : null;
  }
}

/** A parser of bytes in memory. */
function inMemory(
  name: string,
  format: Format,
  valid: readonly Uint8Array[],
  read: (input: Uint8Array) => unknown,
): Target {
  const run = (input: Uint8Array) => refuseOrRead(() => read(input));
  const prepare = async () => {
    read(valid[0] as Uint8Array); // throws where the valid input is refused
    return { valid, run };
  };
  return { kind: "parser", name, format, prepare };
}

interface FileTarget {
  /** Other files that lie below the folder. */
  beside?: Readonly<Record<string, Uint8Array>>;
  read(file: string, folder: string): unknown;
}

/** A parser of a file, which is written anew for each input. */
function ofFile(
  name: string,
  [file, format]: [string, Format],
  valid: readonly Uint8Array[],
  target: FileTarget,
): Target {
  return {
    ...{ kind: "parser", name, format },
    async prepare(folder) {
      const path = join(folder, file);
      for (const [other, content] of Object.entries({ [file]: new Uint8Array(0), ...target.beside })) {
        mkdirSync(dirname(join(folder, other)), { recursive: true });
        writeFileSync(join(folder, other), content);
      }
      writeFileSync(path, valid[0] as Uint8Array);
      await target.read(path, folder); // throws where the valid input is refused
      const run = (input: Uint8Array) => {
        writeFileSync(path, input);
        return refuseOrRead(() => target.read(path, folder));
      };
      return { valid, run };
    },
  };
}

const TENSORS = encodeSafetensors(tinyTensors({ layers: 1 }));
const HEADER = TENSORS.subarray(8, 8 + Number(Buffer.from(TENSORS).readBigUInt64LE(0)));
const INDEX = encode({ metadata: { total_size: 80 }, weight_map: { a: "m-1.safetensors", b: "x/m-2.safetensors" } });
const TOKENIZER = readFileSync(join(FIXTURE, "tokenizer.json"));
const VOCABULARY = JSON.parse(TOKENIZER.toString()).model as { vocab: Record<string, number>; merges: unknown[] };
const MERGES = Buffer.from(VOCABULARY.merges.map((pair) => (Array.isArray(pair) ? pair.join(" ") : pair)).join("\n"));
const ONNX = [
  changedProto(),
  changedProto(({ graph }) => {
    graph.initializer.push({ name: "w", dims: [2, 2], dataType: 1, rawData: new Uint8Array(16) });
    graph.initializer.push(externalTensor("v", [4], { location: "model.onnx_data", offset: "0", length: "16" }));
    graph.node.push({ opType: "If", attribute: [{ name: "a", i: 1, g: Uint8Array.of(1), t: { dims: [1] } }] });
  }),
];

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

async function useTokenizer(folder: string): Promise<void> {
  const size = await readTokenizerSize(folder);
  if (size !== undefined && !Number.isSafeInteger(size)) throw new Error(`size ${size}`);
  const tokenizer = await readTokenizer(folder);
  const ids = tokenizer?.encode("Once upon a time, 12 <|endoftext|> caf\u00e9 \ud83d\ude00\r\n  x");
  if (ids?.some((id) => !Number.isSafeInteger(id) || id < 0)) throw new Error(`ids ${ids.slice(0, 8).join()}`);
  tokenizer?.decode(ids ?? []);
}

async function readAllText(file: string): Promise<void> {
  for await (const piece of readTextPieces([file])) if (typeof piece !== "string") throw new Error("no text");
}

async function readCorpus(file: string, folder: string): Promise<void> {
  const corpus = await TokenCorpus.open([file], null, { vocabulary: 384, cache: join(folder, "cache") });
  await corpus.read(0, corpus.tokens).finally(() => corpus.close());
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
  ofFile("any-checkpoint", ["model.any", "bytes"], [TENSORS, ONNX[0] as Uint8Array, TOKENIZER], { read: resolveLocal }),
  ofFile("nfc-record", ["nfc.json", "json"], [encode(RECORD)], { read: (_, folder) => readNfcRecord(folder) }),
  ofFile("tokenizer", ["tokenizer.json", "json"], [TOKENIZER], { read: (_, folder) => useTokenizer(folder) }),
  ofFile("vocabulary", ["vocab.json", "json"], [encode(VOCABULARY.vocab)], {
    beside: { "merges.txt": MERGES },
    read: (_, folder) => useTokenizer(folder),
  }),
  ofFile("merges", ["merges.txt", "lines"], [MERGES], {
    beside: { "vocab.json": encode(VOCABULARY.vocab) },
    read: (_, folder) => useTokenizer(folder),
  }),
  ofFile("generation-config", ["generation_config.json", "json"], [encode(GENERATION)], {
    read: (_, folder) => readEndTokens({ folder, config: tinyModelConfig(), rawConfig: tinyHfConfig() }),
  }),
  ofFile("size-config", ["nfc.size.json", "json"], [encode(SIZES)], { read: (_, folder) => readSizeConfig(folder) }),
  ofFile("manifest", ["package.json", "json"], [encode({ name: "a", nfc: SIZES })], {
    read: (_, folder) => readSizeConfig(folder),
  }),
  ofFile("baseline", ["nfc.baseline.json", "json"], [encode(BASELINE)], { read: (file) => readBaseline(file) }),
  ofFile("run", ["out.run/run.json", "json"], [encode(RUN)], {
    read: (_, folder) => new RunFolder(join(folder, "out"), textStateSchema).identity(),
  }),
  ofFile("token-bins", ["train.bin", "bytes"], [Buffer.from(Uint16Array.from({ length: 300 }, (_, i) => i).buffer)], {
    read: readCorpus,
  }),
  ofFile("text-lines", ["text.jsonl", "lines"], [Buffer.from('{"text":"a"}\n{"text":"b c","n":[1,{}]}\n\n')], {
    read: readAllText,
  }),
  ofFile("text", ["text.txt", "bytes"], [Buffer.from("Once upon a time\r\n\r\ncaf\u00e9 \ud83d\ude00\n".repeat(20))], {
    read: readAllText,
  }),
  ofFile("onnx", ["model.onnx", "protobuf"], ONNX, {
    beside: { "model.onnx_data": new Uint8Array(16) },
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
