// The parsers of data: texts, JSON, packed files, token ids in every form, and nfc's own files of a run.
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { TokenCorpus } from "../../src/distill/data/token-cache.ts";
import { openIds, writeIds } from "../../src/distill/data/token-file.ts";
import { RunFolder, textStateSchema } from "../../src/distill/run-folder.ts";
import { openTopKFile } from "../../src/distill/teacher/cache.ts";
import { findIdLayout } from "../../src/formats/ids/layout.ts";
import { streamIds } from "../../src/formats/ids/stream.ts";
import { verifyChecksums } from "../../src/io/checksums.ts";
import { detectDataKind } from "../../src/io/data-file.ts";
import { JsonCutter } from "../../src/io/json-values.ts";
import { sha256File } from "../../src/io/sha256.ts";
import { readTextPieces } from "../../src/io/text.ts";
import { encode, inMemory, ofFile } from "./make-parser.ts";
import type { Target } from "./target.ts";
import { NUMPY, SHARDS, STATE, VOCABULARY_SIZE, WIDE_IDS } from "./valid-data.ts";

const TEXT = Buffer.from("Once upon a time\r\n\r\ncaf\u00e9 \ud83d\ude00\n".repeat(20));
const LINES = Buffer.from('{"text":"a"}\n{"text":"b c","n":[1,{}]}\n\n');
const ARRAY = Buffer.from('[\n  {"text": "a, ]", "n": [1, {"b": "\\""}]},\n  {"text": "b\\\\"},\n  "c"\n]\n');
const VALUES = Buffer.from('{\n  "text": "a }"\n}\n{\n  "text": "b"\n} {"text":"c"}\n');
const PLAIN_IDS = Buffer.from(Uint16Array.from({ length: 300 }, (_, i) => i).buffer);

async function readAllText(file: string): Promise<void> {
  for await (const piece of readTextPieces([file])) if (typeof piece !== "string") throw new Error("no text");
}

/** Reads ids as a stream, and as a corpus: both must find the same. */
async function readIds(file: string, folder: string): Promise<void> {
  const streamed: number[] = [];
  let refused: unknown = null;
  try {
    for await (const ids of streamIds(file, VOCABULARY_SIZE)) streamed.push(...ids);
  } catch (error) {
    refused = error;
  }
  const cache = join(folder, "cache");
  rmSync(cache, { recursive: true, force: true });
  const corpus = await TokenCorpus.open([file], null, { vocabulary: VOCABULARY_SIZE, cache });
  const found = await corpus.read(0, corpus.tokens).finally(() => corpus.close());
  if (refused !== null) throw refused;
  if (found.length !== streamed.length || found.some((id, i) => id !== streamed[i]))
    throw new Error("a stream and a corpus of a file differ");
}

/** Reads whatever the file is found to be. */
async function readAnyData(file: string, folder: string): Promise<void> {
  const { kind } = await detectDataKind(file);
  await (kind === "ids" ? readIds(file, folder) : readAllText(file));
}

/** A text that comes in pieces has the values of the whole text. */
function cutJson(input: Uint8Array): void {
  const text = Buffer.from(input).toString();
  for (const shape of ["array", "values"] as const) {
    const [whole, pieces] = [new JsonCutter(shape), new JsonCutter(shape)];
    const expected = [...whole.push(text)];
    const found = Array.from({ length: Math.ceil(text.length / 7) }, (_, i) => [
      ...pieces.push(text.slice(7 * i, 7 * i + 7)),
    ]).flat();
    const [one, other] = [whole, pieces].map((cutter, i) =>
      JSON.stringify([i === 0 ? expected : found, cutter.rest, cutter.hasEnded]),
    );
    if (one !== other) throw new Error(`pieces of ${shape} are cut in another way`);
  }
}

/** A file of ids in the cache, which is damaged or whole: what is whole has ids only. */
async function readCachedIds(file: string): Promise<void> {
  const ids = await openIds(file, 2);
  await ids?.file.close();
}

async function readTeacher(file: string): Promise<void> {
  const topK = await openTopKFile(file, 6, VOCABULARY_SIZE);
  const into = { ids: new BigInt64Array(6), logProbabilities: new Float32Array(6) };
  for (const window of [0, 1, 2]) await topK.read(window, into);
  await topK.close();
}

/** Checksums that are right but for those that the input says. */
async function readChecksums(_: string, folder: string): Promise<void> {
  await verifyChecksums(folder, ["state.json"]);
}

async function* onePiece(ids: readonly number[]): AsyncGenerator<readonly number[]> {
  yield ids;
}

/** A target whose valid input is written by nfc itself into the folder. */
function ofWritten(name: string, file: string, write: (path: string) => Promise<void>, read: typeof readAnyData) {
  return ofFile(name, [file, "bytes"], [], { write, read });
}

export const DATA_PARSERS: readonly Target[] = [
  ofFile("token-bins", ["train.bin", "bytes"], [PLAIN_IDS], { read: readIds }),
  ofFile("wide-bins", ["train.bin", "bytes"], WIDE_IDS, { read: readIds }),
  ofFile("shards-of-ids", ["train.bin", "bytes"], SHARDS, { read: readIds }),
  ofFile("numpy", ["train.npy", "bytes"], NUMPY, { read: readIds }),
  ofFile(
    "packed-ids",
    ["train.bin.gz", "gzip"],
    [PLAIN_IDS, ...SHARDS, ...NUMPY].map((ids) => gzipSync(ids)),
    {
      read: readIds,
    },
  ),
  inMemory("id-layout", "bytes", [...NUMPY, ...SHARDS, ...WIDE_IDS, PLAIN_IDS], (input) =>
    findIdLayout("a.bin", input, VOCABULARY_SIZE, [input.subarray(0, 64)]),
  ),
  ofFile(
    "packed-text",
    ["text.gz", "gzip"],
    [TEXT, LINES, ARRAY].map((text) => gzipSync(text)),
    { read: readAnyData },
  ),
  ofFile("any-data", ["data", "bytes"], [TEXT, LINES, ARRAY, VALUES, ...NUMPY, ...SHARDS], {
    refused: [PLAIN_IDS],
    read: readAnyData,
  }),
  ofFile("text-lines", ["text.jsonl", "lines"], [LINES], { read: readAllText }),
  ofFile("json-array", ["text.json", "json"], [ARRAY], { read: readAllText }),
  ofFile("json-values", ["text.json", "lines"], [VALUES, LINES], { read: readAllText }),
  ofFile("json-any-name", ["corpus", "lines"], [ARRAY, LINES, VALUES], { read: readAnyData }),
  inMemory("json-cutter", "bytes", [ARRAY, VALUES, LINES], cutJson),
  ofFile("text", ["text.txt", "bytes"], [TEXT], { read: readAllText }),
  ofWritten("cached-ids", "a.u16", (path) => writeIds(path, 2, onePiece([1, 2, 65_535])), readCachedIds),
  ofWritten("cached-teacher", "a.topk", writeTeacher, readTeacher),
  ofFile("run-state", ["out.run/checkpoint/state.json", "json"], [encode(STATE)], {
    read: (_, folder) => new RunFolder(join(folder, "out"), textStateSchema).readStep(),
  }),
  ofFile("checksums", ["checksums.json", "json"], [], {
    write: async (path) => {
      const state = join(path, "../state.json");
      writeFileSync(state, encode(STATE));
      writeFileSync(path, encode({ "state.json": await sha256File(state), "metrics.jsonl": "0".repeat(64) }));
    },
    read: readChecksums,
  }),
];

async function writeTeacher(path: string): Promise<void> {
  const topK = await openTopKFile(path, 6, VOCABULARY_SIZE);
  const entry = { ids: BigInt64Array.from([0, 7, 300, 3, 2, 1], BigInt), logProbabilities: new Float32Array(6) };
  const into = { ids: new BigInt64Array(6), logProbabilities: new Float32Array(6) };
  for (const window of [0, 1, 2]) await topK.write(window, entry, into);
  await topK.close();
}
