// Opening checkpoints from disk: values in canonical orientation whatever the naming, layout, dtype and number of files.
import { writeFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import { type Checkpoint, type OpenOptions, openCheckpoint } from "../../src/checkpoint/checkpoint.ts";
import { formatNfcRecord } from "../../src/checkpoint/nfc-record.ts";
import { countBytes, decodeFloats } from "../../src/formats/dtype.ts";
import { listParameters } from "../../src/model/parameters.ts";
import { VARIANTS } from "../../src/model/variants.ts";
import { failureOf } from "../support/failure.ts";
import {
  encode,
  tinyHfConfig,
  tinyTensors,
  tinyValues,
  type WriteTinyOptions,
  writeCheckpoint,
} from "../support/make-checkpoint.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("checkpoint");
let folders = 0;

/** Writes a checkpoint, opens it, and closes it after `use`. */
async function opened<T>(
  options: WriteTinyOptions & { open?: OpenOptions; record?: string },
  use: (checkpoint: Checkpoint, folder: string) => Promise<T> | T,
): Promise<T> {
  const folder = await writeCheckpoint(path(`m${folders++}`), options);
  if (options.record !== undefined) await writeFile(`${folder}/nfc.json`, options.record);
  const checkpoint = await openCheckpoint(folder, options.open);
  try {
    return await use(checkpoint, folder);
  } finally {
    await checkpoint.close();
  }
}

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk.slice());
  return Buffer.concat(parts);
}

const valuesOf = (name: string, shape: readonly number[]) =>
  tinyValues(
    name,
    shape.reduce((a, b) => a * b, 1),
  );

/** Every tensor must have its canonical values, by readF32 and by chunks. */
async function expectCanonical(checkpoint: Checkpoint): Promise<void> {
  const specs = listParameters(checkpoint.config);
  expect([...checkpoint.tensors.keys()]).toEqual(specs.map(({ name }) => name));
  for (const { name, shape } of specs) {
    const tensor = checkpoint.tensors.get(name);
    if (tensor === undefined) throw new Error(name);
    expect(tensor.shape).toEqual(shape);
    expect(tensor.byteLength).toBe(countBytes(tensor.dtype, shape));
    const expected = encode(valuesOf(name, shape), tensor.dtype);
    expect(await collect(checkpoint.chunks(name))).toEqual(Buffer.from(expected));
    expect(await checkpoint.readF32(name)).toEqual(decodeFloats(expected, tensor.dtype));
  }
}

const FORMS: [string, WriteTinyOptions & { open?: OpenOptions }][] = [
  ["GPT-2's names", {}],
  ["transformers' names with masks", { base: "transformer.", masks: true }],
  ["torch.compile and DistributedDataParallel", { prefix: "_orig_mod.module.", base: "transformer.", head: "copy" }],
  ["nanoGPT", { base: "transformer.", layout: "linear", head: "copy", config: null, open: { nHead: 2 } }],
  ["nanoGPT without biases", { base: "transformer.", layout: "linear", bias: false }],
  [
    "nanoGPT through save_model",
    { base: "transformer.", layout: "linear", head: "only", metadata: { "transformer.wte.weight": "lm_head.weight" } },
  ],
  ["an untied head", { head: "own" }],
  ["shards", { shards: 3, base: "transformer." }],
  ["shards of nanoGPT", { shards: 2, layout: "linear", head: "copy" }],
  ["half precision", { dtype: "F16" }],
  ["half precision, transposed", { dtype: "F16", layout: "linear" }],
  ["brain floats, transposed", { dtype: "BF16", layout: "linear" }],
  ["double precision, transposed", { dtype: "F64", layout: "linear" }],
  ["mixed dtypes", { dtype: (name) => (name.includes("ln_") ? "F32" : "BF16") }],
  ["an odd width of the MLP", { inner: 37, layout: "linear" }],
  ["a width beyond one block of a transposition", { width: 40, inner: 70, layout: "linear", layers: 1 }],
];

describe("opening a checkpoint", () => {
  it.each(FORMS)("the same model is read from %s", async (_, options) => {
    await opened(options, expectCanonical);
  });

  it.each(VARIANTS)("the variant %s is read in both orientations", async (variant) => {
    await opened({ variant }, expectCanonical);
    await opened({ variant, layout: "linear" }, expectCanonical);
  });

  it("a single file is opened with the config.json beside it", async () => {
    const folder = await writeCheckpoint(path("file"), { file: "step-100.safetensors", base: "transformer." });
    const checkpoint = await openCheckpoint(`${folder}/step-100.safetensors`);
    expect(checkpoint.folder).toBe(folder);
    expect(checkpoint.source).toBe(`${folder}/step-100.safetensors`);
    expect(checkpoint.rawConfig).toEqual(tinyHfConfig());
    await checkpoint.close();
  });

  it("a shard index is opened with all of its shards", async () => {
    const folder = await writeCheckpoint(path("index"), { shards: 2 });
    const checkpoint = await openCheckpoint(`${folder}/model.safetensors.index.json`);
    await expectCanonical(checkpoint);
    expect(checkpoint.reader.files).toHaveLength(2);
    await checkpoint.close();
  });

  it("every tensor says where its bytes lie in the file", async () => {
    await opened({ masks: true }, async (checkpoint) => {
      const tensor = checkpoint.tensors.get("wpe.weight");
      expect(tensor).toMatchObject({ sourceName: "wpe.weight", transposed: false, dtype: "F32" });
      expect(tensor?.offset).toBe(checkpoint.reader.tensors.get("wpe.weight")?.offset);
    });
  });

  it("file bytes come in pieces that are views of the reader's buffer, not copies", async () => {
    await opened({}, async (checkpoint) => {
      const buffers = new Set<ArrayBufferLike>();
      for (const name of ["wte.weight", "ln_f.weight"]) {
        for await (const chunk of checkpoint.chunks(name)) buffers.add(chunk.buffer);
      }
      expect(buffers.size).toBe(1);
    });
  });

  it("a missing config.json is noted", async () => {
    await opened({ config: null, open: { nHead: 2 } }, (checkpoint, folder) => {
      expect(checkpoint.rawConfig).toEqual({});
      expect(checkpoint.notes).toContain(
        `no config.json beside ${folder}/model.safetensors: dimensions are those of the tensors`,
      );
    });
  });

  it("a model without config.json asks for --n-head", async () => {
    const folder = await writeCheckpoint(path("headless"), { config: null });
    const error = await failureOf(() => openCheckpoint(folder));
    expect(error.code).toBe("usage");
    expect(error.hint).toContain("--n-head");
  });

  it("an unknown tensor name is refused", async () => {
    await opened({}, async (checkpoint) => {
      const error = await failureOf(() => checkpoint.readF32("h.9.ln_1.weight"));
      expect(error.code).toBe("not-found");
      expect(error.message).toContain("has no tensor h.9.ln_1.weight");
    });
  });

  it("a config.json that is not JSON is refused by its path", async () => {
    const folder = await writeCheckpoint(path("broken"), { config: null });
    await writeFile(`${folder}/config.json`, "{");
    const error = await failureOf(() => openCheckpoint(folder));
    expect(error.message).toContain(`${folder}/config.json`);
    expect(error.code).toBe("invalid-file");
  });

  it("the warnings of the reader become notes of the checkpoint", async () => {
    const folder = await writeCheckpoint(path("warned"), { shards: 2 });
    const weight_map = Object.fromEntries(
      tinyTensors().map(({ name }, index) => [name, `model-0000${(index % 2) + 1}-of-00002.safetensors`]),
    );
    await writeFile(
      `${folder}/model.safetensors.index.json`,
      JSON.stringify({ metadata: { total_size: 1 }, weight_map }),
    );
    const checkpoint = await openCheckpoint(folder);
    expect(checkpoint.notes.join()).toContain("total_size");
    await checkpoint.close();
  });

  it("opening stops at once when its signal has fired", async () => {
    const folder = await writeCheckpoint(path("aborted"));
    const error = await failureOf(() => openCheckpoint(folder, { signal: AbortSignal.abort() }));
    expect(error.code).toBe("aborted");
  });
});

describe("the head of a checkpoint", () => {
  it("a head that equals wte byte by byte is tied", async () => {
    await opened({ head: "copy" }, (checkpoint) => {
      expect(checkpoint.config.tied_head).toBe(true);
      expect(checkpoint.tensors.has("lm_head.weight")).toBe(false);
    });
  });

  it.each([0, 11 * 8 - 1])("a head that differs from wte in value %i alone stays separate", async (at) => {
    const tensors = tinyTensors({ head: "copy" });
    const head = tensors.find(({ name }) => name === "lm_head.weight");
    if (head === undefined) throw new Error("no head");
    head.bytes = head.bytes.slice();
    new Float32Array(head.bytes.buffer)[at] = 7;
    await opened({ tensors }, async (checkpoint) => {
      expect(checkpoint.config.tied_head).toBe(false);
      expect((await checkpoint.readF32("lm_head.weight"))[at]).toBe(7);
      expect(checkpoint.notes.join()).toContain("lm_head.weight differs from wte.weight");
    });
  });

  it("a head that lies in another shard is compared with wte as well", async () => {
    await opened({ head: "copy", shards: 2 }, (checkpoint) => expect(checkpoint.config.tied_head).toBe(true));
  });
});

describe("trimming the vocabulary", () => {
  it("--trim-vocab cuts wte and a separate head, in chunks and in values", async () => {
    await opened({ head: "own", open: { trimVocab: 7 } }, async (checkpoint) => {
      expect(checkpoint.config.vocab_size).toBe(7);
      for (const name of ["wte.weight", "lm_head.weight"]) {
        const expected = valuesOf(name, [11, 8]).slice(0, 7 * 8);
        expect(await checkpoint.readF32(name)).toEqual(expected);
        expect(await collect(checkpoint.chunks(name))).toEqual(Buffer.from(encode(expected, "F32")));
        expect(checkpoint.tensors.get(name)).toMatchObject({ shape: [7, 8], byteLength: 7 * 8 * 4 });
      }
    });
  });

  it("--trim-vocab without a number takes the tokenizer's size", async () => {
    const folder = await writeCheckpoint(path("trim"));
    await writeFile(`${folder}/vocab.json`, JSON.stringify({ a: 0, b: 1, c: 5 }));
    const checkpoint = await openCheckpoint(folder, { trimVocab: true });
    expect(checkpoint.config.vocab_size).toBe(6);
    await checkpoint.close();
  });
});

describe("nfc.json beside a checkpoint", () => {
  const record = {
    format: "nfc/1",
    tool: { name: "nfc", version: "0.1.0" },
    variant: "noise-shared",
    tie: null,
    source: { path: "base", files: [], parameters: 1 },
    command: [],
    history: [],
    notes: [],
  } as const;
  const text = formatNfcRecord(structuredClone(record) as never);

  it("the record of nfc.json comes with the checkpoint", async () => {
    await opened({ variant: "noise-shared", record: text }, (checkpoint) => expect(checkpoint.record).toEqual(record));
  });

  it("an nfc.json that contradicts the tensors is refused", async () => {
    const error = await failureOf(() => opened({ variant: "symmetric", record: text }, () => {}));
    expect(error.code).toBe("mismatch");
  });

  it("the record of a checkpoint without nfc.json is null", async () => {
    await opened({}, (checkpoint) => expect(checkpoint.record).toBeNull());
  });
});
