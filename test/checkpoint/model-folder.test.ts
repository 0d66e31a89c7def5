// What every written model folder shares: config.json, copied tokenizer files, and tensors in another dtype.
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { convertChunks, makeTensorSource, writeModelFiles, writeText } from "../../src/checkpoint/model-folder.ts";
import { decodeFloats, encodeFloats, type FloatDtype } from "../../src/formats/dtype.ts";
import { TOKENIZER_FILES } from "../../src/io/tokenizer-files.ts";
import { failureOf } from "../support/failure.ts";
import { bytesOf, MODEL, opened } from "../support/fixture.ts";
import { encode, tinyHfConfig, writeCheckpoint } from "../support/make-checkpoint.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("model-folder");
let count = 0;

function emptyFolder(): string {
  const folder = path(`f${count++}`);
  mkdirSync(folder);
  return folder;
}

const FILES = [...TOKENIZER_FILES, "generation_config.json"];

describe("the files of a model folder", () => {
  it("writeModelFiles copies every tokenizer and generation file that is there, and no other", async () => {
    const source = await writeCheckpoint(path("full"));
    const content = (name: string) => (name.endsWith(".json") ? JSON.stringify({ of: name }) : `of ${name}`);
    for (const name of [...FILES, "README.md", "training_args.bin"]) writeFileSync(`${source}/${name}`, content(name));
    const folder = emptyFolder();
    await opened(source, (checkpoint) => writeModelFiles(folder, checkpoint, checkpoint.config));
    expect(readdirSync(folder).sort()).toEqual(["config.json", ...FILES].sort());
    for (const name of FILES) expect(readFileSync(`${folder}/${name}`, "utf8")).toBe(content(name));
  });

  it("copies of read-only files are writable, and copies of links are files", async () => {
    const source = await writeCheckpoint(path("read-only"));
    writeFileSync(`${source}/vocab.json`, "{}");
    chmodSync(`${source}/vocab.json`, 0o444);
    symlinkSync("vocab.json", `${source}/merges.txt`);
    const folder = emptyFolder();
    await opened(source, (checkpoint) => writeModelFiles(folder, checkpoint, checkpoint.config));
    for (const name of ["vocab.json", "merges.txt"]) {
      expect(statSync(`${folder}/${name}`).mode & 0o200).toBe(0o200);
      expect(statSync(`${folder}/${name}`).isFile()).toBe(true);
    }
  });

  it("config.json is written for the given configuration, with other keys kept and extra keys added", async () => {
    const source = await writeCheckpoint(path("keys"), { config: { ...tinyHfConfig(), resid_pdrop: 0.25 } });
    const folder = emptyFolder();
    await opened(source, (checkpoint) =>
      writeModelFiles(folder, checkpoint, { ...checkpoint.config, variant: "symmetric" }, { extra: { added: [1] } }),
    );
    expect(JSON.parse(readFileSync(`${folder}/config.json`, "utf8"))).toMatchObject({
      model_type: "gpt2",
      nfc_variant: "symmetric",
      resid_pdrop: 0.25,
      added: [1],
    });
  });

  it("a file that cannot be written is named", async () => {
    const error = await failureOf(() =>
      opened(MODEL, (checkpoint) => writeModelFiles(path("missing-folder"), checkpoint, checkpoint.config)),
    );
    expect(error.message).toBe(`${path("missing-folder")}/config.json: no such file or folder`);
    expect((await failureOf(() => writeText(path("no", "x"), "x"))).code).toBe("not-found");
  });
});

/** The bytes in pieces of a size that no element divides. */
async function* pieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  const reused = new Uint8Array(size);
  for (let at = 0; at < bytes.length; at += size) {
    const part = bytes.subarray(at, at + size);
    reused.set(part);
    yield reused.subarray(0, part.length);
  }
}

async function gather(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const chunk of chunks) parts.push(Buffer.from(chunk));
  return Buffer.concat(parts);
}

describe("converting chunks", () => {
  const values = Float32Array.from({ length: 101 }, (_, i) => Math.sin(i) * 10 ** ((i % 7) - 3));
  const dtypes: FloatDtype[] = ["F64", "F32", "F16", "BF16"];
  const pairs = dtypes.flatMap((from) => dtypes.map((to) => [from, to] as const));

  it.each(pairs)(
    "converting from %s to %s in pieces equals converting at once, whatever the pieces",
    async (from, to) => {
      const bytes = encode(values, from);
      const expected = from === to ? bytes : encodeFloats(decodeFloats(bytes, from), to);
      for (const size of [1, 3, 8, 13, 4096]) {
        const result = await gather(convertChunks(pieces(bytes, size), { name: "x", dtype: from }, to));
        expect(result.equals(expected), `pieces of ${size}`).toBe(true);
      }
    },
  );

  const stored = async (value: number, from: FloatDtype, to: FloatDtype) => {
    const bytes =
      from === "F64"
        ? new Uint8Array(Float64Array.of(0, value).buffer)
        : new Uint8Array(Float32Array.of(0, value).buffer);
    return decodeFloats(await gather(convertChunks(pieces(bytes, 5), { name: "x", dtype: from }, to)), to)[1];
  };

  it.each([
    [65_520, "F32", "F16", "take bf16 or f32"],
    [-1e6, "F32", "F16", "take bf16 or f32"],
    [1e300, "F64", "F16", "take bf16 or f32"],
    [3.4e38, "F32", "BF16", "keep the tensor's own dtype"],
    [1e39, "F64", "F32", "keep the tensor's own dtype"],
    [-1e39, "F64", "BF16", "keep the tensor's own dtype"],
  ] as const)("the value %d in %s is refused when it would become infinite in %s", async (value, from, to, hint) => {
    const error = await failureOf(() => stored(value, from, to));
    expect(error.code).toBe("unsupported");
    expect(error.message).toMatch(new RegExp(`^x: \\S+ does not fit ${to}$`));
    expect(error.hint).toBe(hint);
  });

  it.each([
    [65_519, "F32", "F16", 65_504],
    [3.38e38, "F32", "BF16", 254 * 2 ** 120],
    [3e38, "F64", "F32", Math.fround(3e38)],
    [Number.POSITIVE_INFINITY, "F32", "F16", Number.POSITIVE_INFINITY],
    [Number.NEGATIVE_INFINITY, "F64", "F32", Number.NEGATIVE_INFINITY],
    [Number.NaN, "F64", "BF16", Number.NaN],
  ] as const)("the value %d of %s is stored in %s", async (value, from, to, expected) => {
    expect(await stored(value, from, to)).toBe(expected);
  });
});

describe("tensor sources", () => {
  it("makeTensorSource passes the bytes of a tensor through in its own dtype, and converts to another", async () => {
    await opened(MODEL, async (checkpoint) => {
      const tensor = checkpoint.tensors.get("ln_f.weight");
      if (!tensor) throw new Error("ln_f.weight");
      const own = makeTensorSource(checkpoint, tensor);
      expect(own).toMatchObject({ name: "ln_f.weight", dtype: "F32", shape: [64] });
      expect((await gather(own.chunks())).equals(await bytesOf(checkpoint, "ln_f.weight"))).toBe(true);
      const half = makeTensorSource(checkpoint, tensor, "F16");
      expect(half.dtype).toBe("F16");
      expect((await gather(half.chunks())).length).toBe(128);
    });
  });
});
