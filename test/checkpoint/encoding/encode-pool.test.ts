// A text encoded by worker threads, with the sources compiled to a temporary folder.
import { readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import { cutPieces } from "../../../src/checkpoint/encoding/cuts.ts";
import { checkDefinition } from "../../../src/checkpoint/encoding/definition.ts";
import { type EncodeOptions, encodePieces } from "../../../src/checkpoint/encoding/encode-pool.ts";
import { Pipeline } from "../../../src/checkpoint/encoding/pipeline.ts";
import { compileCli } from "../../support/compiled-cli.ts";
import { failureOf } from "../../support/failure.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const at = temporaryFolder("encode-pool");
const compiled = pathToFileURL(at("dist/checkpoint/encoding/encode-worker.js"));
const fixtures = fileURLToPath(new URL("../../../fixtures/", import.meta.url));
const text = readFileSync(`${fixtures}text.txt`, "utf8");
const json = readFileSync(`${fixtures}tiny-gpt2/tokenizer.json`, "utf8");

beforeAll(async () => {
  await compileCli(at());
});

const makePipeline = (source: string) => new Pipeline(checkDefinition(JSON.parse(source), "tokenizer.json"));

async function* feed(sample: string): AsyncGenerator<string> {
  for (let from = 0; from < sample.length; from += 100) yield sample.slice(from, from + 100);
}

interface Encoded {
  ids: number[];
  pieces: number;
  /** Pieces that a worker has encoded. */
  byWorkers: number;
}

/** Encodes a text in pieces of some 300 characters, a hundred of them in the fixture. */
async function encode(sample: string, options: Partial<EncodeOptions> = {}, source = json): Promise<Encoded> {
  const pipeline = makePipeline(source);
  const all = { json: source, file: "tokenizer.json", worker: compiled, threads: 2, ...options };
  const encoded: Encoded = { ids: [], pieces: 0, byWorkers: 0 };
  for await (const ids of encodePieces(cutPieces(feed(sample), pipeline, 300), pipeline, all)) {
    encoded.ids.push(...ids);
    encoded.pieces++;
    if (ids instanceof Int32Array) encoded.byWorkers++;
  }
  return encoded;
}

/** A worker of our own; `parentPort` is at hand. */
async function workerOf(name: string, body: string): Promise<URL> {
  await writeFile(at(name), `import { parentPort } from "node:worker_threads";\n${body}`);
  return pathToFileURL(at(name));
}

describe("encoding in workers", () => {
  test.each([2, 3, 5])("%i workers give the ids of the whole text, in its order", async (threads) => {
    const { ids, pieces, byWorkers } = await encode(text, { threads });
    expect(ids).toEqual(makePipeline(json).encode(text));
    expect(byWorkers).toBe(pieces - 32);
    expect(byWorkers).toBeGreaterThan(40);
  });

  test("a short text, one thread, and sources that are not compiled need no worker", async () => {
    expect((await encode(text.slice(0, 5000))).byWorkers).toBe(0);
    expect((await encode(text, { threads: 1 })).byWorkers).toBe(0);
    const { ids, byWorkers } = await encode(text, { worker: pathToFileURL(at("none.js")) });
    expect(byWorkers).toBe(0);
    expect(ids).toEqual(makePipeline(json).encode(text));
  });

  test("a normalizer may look at what came before: such a text is encoded in place", async () => {
    const source = JSON.stringify({ ...JSON.parse(json), normalizer: { type: "Strip", strip_left: true } });
    const { ids, byWorkers } = await encode(text, {}, source);
    expect(byWorkers).toBe(0);
    expect(ids).toEqual(makePipeline(source).encode(text));
  });

  test("a fault of a text is thrown when its piece has its turn, by its code, line and hint", async () => {
    const source = JSON.parse(json);
    delete source.model.vocab.Ā; // the byte 0
    source.model.unk_token = "<none>";
    const broken = `${text}\n\u0000\n${text}`;
    const seen: number[] = [];
    const pipeline = makePipeline(JSON.stringify(source));
    const options = { json: JSON.stringify(source), file: "tokenizer.json", worker: compiled, threads: 3 };
    const error = await failureOf(async () => {
      for await (const ids of encodePieces(cutPieces(feed(broken), pipeline, 300), pipeline, options))
        seen.push(...ids);
    });
    expect(error).toMatchObject({
      code: "invalid-file",
      message: 'tokenizer.json: the unknown token "<none>" is not in the vocabulary',
      hint: expect.stringMatching(/^add it to the vocabulary/),
    });
    const before = pipeline.encode(text);
    expect(seen.length).toBeGreaterThan(0.9 * before.length);
    expect(seen).toEqual(before.slice(0, seen.length));
  });

  test.each([
    ["throws", "parentPort.on('message', () => { throw new Error('worker bug'); });", /worker bug/],
    ["exits", "parentPort.on('message', () => process.exit(3));", /an encoding worker ended with code 3/],
  ])("a worker that %s ends the text with its error", async (name, body, message) => {
    const worker = await workerOf(`${name}.mjs`, body);
    await expect(encode(text, { worker })).rejects.toThrow(message);
  });

  test("workers end when the reader stops early", async () => {
    const pipeline = makePipeline(json);
    async function* repeat() {
      for (;;) yield* feed(text);
    }
    let workers = 0;
    const options = { json, file: "tokenizer.json", worker: compiled, threads: 2 };
    for await (const ids of encodePieces(cutPieces(repeat(), pipeline, 300), pipeline, options))
      if (ids instanceof Int32Array && ++workers === 3) break;
    // A worker that still ran would keep this process's resources.
    expect(process.getActiveResourcesInfo().filter((name) => name === "MessagePort")).toEqual([]);
  });
});
