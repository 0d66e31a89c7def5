// Writing safetensors: exact bytes, shards with their index, and sources that do not keep their word.
import { createHash } from "node:crypto";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { countBytes, DTYPE_BITS, type Dtype } from "../../../src/formats/dtype.ts";
import { openSafetensors } from "../../../src/formats/safetensors/reader.ts";
import { makeBytesSource, type TensorSource, writeSafetensors } from "../../../src/formats/safetensors/writer.ts";
import { PIECE_BYTES } from "../../../src/io/positional-file.ts";
import { temporaryFolders } from "../../io/support.ts";
import { failureOf } from "../../support/failure.ts";

const temporaryFolder = temporaryFolders();
const SINGLE = "model.safetensors";

function filled(name: string, bytes: number, value = 1): TensorSource {
  return makeBytesSource(name, "U8", [bytes], new Uint8Array(bytes).fill(value));
}

function source(chunks: Uint8Array[], shape: number[]): TensorSource {
  return {
    name: "t",
    dtype: "U8",
    shape,
    async *chunks() {
      yield* chunks;
    },
  };
}

describe("writing one safetensors file", () => {
  it("a written file has exactly the bytes that the Python library 0.8.0 writes", async () => {
    const folder = await temporaryFolder();
    const i64 = new Uint8Array(BigInt64Array.of(0n, 1n, 2n).buffer);
    await writeSafetensors(folder, [
      makeBytesSource("b", "I64", [3], i64),
      makeBytesSource("a", "F16", [2], Uint8Array.of(0, 0, 0, 0x3c)),
      makeBytesSource("c", "U8", [3], Uint8Array.of(0, 1, 2)),
      makeBytesSource('é\n"\\\u0001\x7f/', "F32", [], new Uint8Array(Float32Array.of(1.5).buffer)),
      makeBytesSource("z", "F32", [0, 3], new Uint8Array(0)),
    ]);
    const expected =
      "48010000000000007b225f5f6d657461646174615f5f223a7b22666f726d6174223a227074227d2c2262223a7b226474797065223a22493634222c" +
      "227368617065223a5b335d2c22646174615f6f666673657473223a5b302c32345d7d2c227a223a7b226474797065223a22463332222c2273686170" +
      "65223a5b302c335d2c22646174615f6f666673657473223a5b32342c32345d7d2c22c3a95c6e5c225c5c5c75303030317f2f223a7b226474797065" +
      "223a22463332222c227368617065223a5b5d2c22646174615f6f666673657473223a5b32342c32385d7d2c2261223a7b226474797065223a224631" +
      "36222c227368617065223a5b325d2c22646174615f6f666673657473223a5b32382c33325d7d2c2263223a7b226474797065223a225538222c2273" +
      "68617065223a5b335d2c22646174615f6f666673657473223a5b33322c33355d7d7d20202020202020000000000000000001000000000000000200" +
      "0000000000000000c03f0000003c000102";
    expect((await readFile(join(folder, SINGLE))).toString("hex")).toBe(expected);
  });

  it("a written file carries the caller's metadata, and format pt whatever the caller says", async () => {
    const folder = await temporaryFolder();
    await writeSafetensors(folder, [filled("a", 1)], { metadata: { format: "np", made: "here" } });
    const reader = await openSafetensors(join(folder, SINGLE));
    expect({ ...reader.metadata }).toEqual({ format: "pt", made: "here" });
    await reader.close();
  });

  it("a written file is reported with its size", async () => {
    const folder = await temporaryFolder();
    const result = await writeSafetensors(folder, [filled("a", 1000)]);
    const { size } = await stat(join(folder, SINGLE));
    expect(result).toEqual({ files: [{ name: SINGLE, bytes: size }], byteLength: size });
  });

  it("a file may be written without any tensors", async () => {
    const folder = await temporaryFolder();
    await writeSafetensors(folder, [], { maxShardSize: 10 });
    const reader = await openSafetensors(join(folder, SINGLE));
    expect(reader.tensors.size).toBe(0);
    await reader.close();
  });

  it("a written file reads back as it was, for any dtypes, shapes and sizes of pieces", async () => {
    const tensor = fc.record({
      name: fc.string({ unit: "grapheme", maxLength: 6 }).filter((name) => name !== "__metadata__"),
      dtype: fc.constantFrom(...(Object.keys(DTYPE_BITS) as Dtype[])),
      shape: fc.array(fc.nat(3), { maxLength: 3 }).map((dimensions) => [8, ...dimensions]),
      piece: fc.integer({ min: 1, max: 50 }),
    });
    const list = fc.uniqueArray(tensor, { selector: ({ name }) => name, minLength: 1, maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(list, fc.option(fc.integer({ min: 1, max: 600 })), async (tensors, maxShardSize) => {
        const folder = await temporaryFolder();
        const sources = tensors.map(({ name, dtype, shape, piece }, i) => {
          const bytes = new Uint8Array(countBytes(dtype, shape)).map((_, at) => i * 31 + at);
          return { ...makeBytesSource(name, dtype, shape, bytes), bytes, chunks: () => pieces(bytes, piece) };
        });
        const { files } = await writeSafetensors(folder, sources, { maxShardSize: maxShardSize ?? undefined });
        const reader = await openSafetensors(join(folder, files.at(-1)?.name as string));
        expect(reader.tensors.size).toBe(sources.length);
        for (const { name, dtype, shape, bytes } of sources) {
          expect(reader.tensors.get(name)).toMatchObject({ dtype, shape });
          expect((await reader.readBytes(name)).join()).toBe(bytes.join());
        }
        await reader.close();
      }),
      { numRuns: 60 },
    );
  });

  it("large and small pieces keep their order", async () => {
    const folder = await temporaryFolder();
    const sizes = [3, 2 * PIECE_BYTES + 5, 1, 700_000, 700_000, 1_048_576, 0, 9];
    const chunks = sizes.map((size, i) => new Uint8Array(size).fill(i + 1));
    const total = sizes.reduce((sum, size) => sum + size);
    await writeSafetensors(folder, [source(chunks, [total])]);
    const reader = await openSafetensors(join(folder, SINGLE));
    const hash = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
    expect(hash(await reader.readBytes("t"))).toBe(hash(Buffer.concat(chunks)));
    await reader.close();
  });

  it("a file is copied through a reader byte for byte, though all pieces share one buffer", async () => {
    const [from, to] = [await temporaryFolder(), await temporaryFolder()];
    const large = new Uint8Array(PIECE_BYTES + 10_000).map((_, i) => i % 251);
    await writeSafetensors(from, [
      filled("a", 300_000, 2),
      filled("b", 800_000, 3),
      makeBytesSource("c", "U8", [large.length], large),
    ]);
    const reader = await openSafetensors(join(from, SINGLE));
    await writeSafetensors(
      to,
      [...reader.tensors.values()].map(({ name, dtype, shape }) => ({
        name,
        dtype,
        shape,
        chunks: () => reader.chunks(name),
      })),
    );
    await reader.close();
    expect((await readFile(join(to, SINGLE))).equals(await readFile(join(from, SINGLE)))).toBe(true);
  });
});

async function* pieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += size) yield bytes.slice(at, at + size);
}

describe("writing shards", () => {
  it("shards are filled in the given order up to the limit, with Hugging Face's names and index", async () => {
    const folder = await temporaryFolder();
    const tensors = [filled("e", 6), filled("b", 4), filled("d", 11), filled("a", 5), filled("c", 5)];
    const { files, byteLength } = await writeSafetensors(folder, tensors, {
      maxShardSize: 10,
      metadata: { made: "here" },
    });
    const names = [1, 2, 3].map((number) => `model-0000${number}-of-00003.safetensors`);
    expect(files.map(({ name }) => name)).toEqual([...names, "model.safetensors.index.json"]);
    expect((await readdir(folder)).sort()).toEqual(files.map(({ name }) => name).sort());
    for (const { name, bytes } of files) expect((await stat(join(folder, name))).size).toBe(bytes);
    expect(byteLength).toBe(files.reduce((sum, { bytes }) => sum + bytes, 0));
    expect(await readFile(join(folder, "model.safetensors.index.json"), "utf8")).toBe(
      `{
  "metadata": {
    "total_parameters": 31,
    "total_size": 31
  },
  "weight_map": {
    "a": "${names[2]}",
    "b": "${names[0]}",
    "c": "${names[2]}",
    "d": "${names[1]}",
    "e": "${names[0]}"
  }
}
`,
    );
    for (const name of names) {
      const reader = await openSafetensors(join(folder, name));
      expect({ ...reader.metadata }).toEqual({ format: "pt", made: "here" });
      await reader.close();
    }
  });

  it("shards count total_size in bytes and total_parameters in elements", async () => {
    const folder = await temporaryFolder();
    const tensors = ["a", "b"].map((name) => makeBytesSource(name, "F16", [2, 3], new Uint8Array(12)));
    await writeSafetensors(folder, tensors, { maxShardSize: 12 });
    const index = JSON.parse(await readFile(join(folder, "model.safetensors.index.json"), "utf8"));
    expect(index.metadata).toEqual({ total_parameters: 12, total_size: 24 });
  });

  it("shards are not made when everything fits", async () => {
    const folder = await temporaryFolder();
    await writeSafetensors(folder, [filled("a", 5), filled("b", 5)], { maxShardSize: 10 });
    expect(await readdir(folder)).toEqual([SINGLE]);
  });

  it("shards are refused for a limit that is no size", async () => {
    for (const maxShardSize of [0, -5, 1.5, Number.NaN]) {
      const fault = await failureOf(() => writeSafetensors("unused", [filled("a", 5)], { maxShardSize }));
      expect(fault.code).toBe("usage");
      expect(fault.message).toBe(`${maxShardSize} is no size for a shard: a positive number of bytes is needed`);
    }
  });

  it("one name is refused twice, even in different shards", async () => {
    const fault = await failureOf(() =>
      writeSafetensors("unused", [filled("a", 5), filled("a", 5)], { maxShardSize: 5 }),
    );
    expect(fault.message).toBe('tensor "a" cannot be written: two tensors have this name');
  });
});

describe("sources of written tensors", () => {
  it("a source that delivers too few bytes is reported", async () => {
    const folder = await temporaryFolder();
    const fault = await failureOf(() => writeSafetensors(folder, [source([new Uint8Array(3)], [5])]));
    expect(fault.code).toBe("mismatch");
    expect(fault.message).toBe(`${join(folder, SINGLE)}: tensor "t": its source delivers 3 bytes, not 5`);
  });

  it("a source that delivers too many bytes is reported, and asked for no more", async () => {
    const folder = await temporaryFolder();
    let asked = 0;
    const endless: TensorSource = {
      ...source([], [5]),
      async *chunks() {
        for (;;) {
          asked++;
          yield new Uint8Array(3);
        }
      },
    };
    const fault = await failureOf(() => writeSafetensors(folder, [endless]));
    expect(fault.code).toBe("mismatch");
    expect(fault.message).toBe(`${join(folder, SINGLE)}: tensor "t": its source delivers more than 5 bytes`);
    expect(asked).toBe(2);
  });

  it("a source that fails is reported as it failed", async () => {
    const failing: TensorSource = {
      ...source([], [5]),
      // biome-ignore lint/correctness/useYield: it fails before it yields
      async *chunks() {
        throw new Error("the source failed");
      },
    };
    await expect(writeSafetensors(await temporaryFolder(), [failing])).rejects.toThrow("the source failed");
  });
});

describe("progress of a write", () => {
  it("progress counts every byte of every file, up to the total", async () => {
    const folder = await temporaryFolder();
    const calls: [number, number][] = [];
    const tensors = [filled("a", 2_000_000), filled("b", 10), filled("c", 2_000_000)];
    const { byteLength } = await writeSafetensors(folder, tensors, {
      maxShardSize: 2_000_010,
      onBytes: (written, total) => calls.push([written, total]),
    });
    expect(calls.every(([, total]) => total === byteLength)).toBe(true);
    expect(calls.map(([written]) => written)).toEqual(calls.map(([written]) => written).sort((a, b) => a - b));
    expect(calls.at(-1)?.[0]).toBe(byteLength);
    expect(calls.length).toBeGreaterThan(3);
  });

  it("a write ends with an error when the signal fires before the first byte", async () => {
    const folder = await temporaryFolder();
    const options = { signal: AbortSignal.abort() };
    const fault = await failureOf(() => writeSafetensors(folder, [filled("a", 5)], options));
    expect(fault.code).toBe("aborted");
    expect(await readdir(folder)).toEqual([]);
  });

  it("a write ends with an error when the signal fires in the middle of a tensor", async () => {
    const folder = await temporaryFolder();
    const controller = new AbortController();
    const large = makeBytesSource("a", "U8", [3 * PIECE_BYTES], new Uint8Array(3 * PIECE_BYTES));
    const written = vi.fn(() => controller.abort());
    const fault = await failureOf(() =>
      writeSafetensors(folder, [large], { signal: controller.signal, onBytes: written }),
    );
    expect(fault.code).toBe("aborted");
    expect(fault.message).toBe(`${join(folder, SINGLE)}: writing was interrupted`);
    expect(written.mock.calls.length).toBeLessThan(4);
  });
});

describe("a late signal", () => {
  it("a signal that fires after the last byte still ends a write with an error, before the wait for the disk", async () => {
    const folder = await temporaryFolder();
    const controller = new AbortController();
    const options = { signal: controller.signal, onBytes: () => controller.abort() };
    expect((await failureOf(() => writeSafetensors(folder, [filled("a", 5)], options))).code).toBe("aborted");
  });
});

describe("the folder of a write", () => {
  it("a write to a folder that is not there is reported", async () => {
    const folder = join(await temporaryFolder(), "none");
    const fault = await failureOf(() => writeSafetensors(folder, [filled("a", 5)]));
    expect(fault.code).toBe("not-found");
    expect(fault.message).toBe(`${join(folder, SINGLE)}: no such file or folder`);
  });
});
