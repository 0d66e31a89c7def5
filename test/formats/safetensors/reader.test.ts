// Reading safetensors files by position: values, pieces, limits, and what happens with broken files.
import { existsSync } from "node:fs";
import { mkdir, open, readdir, readlink, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { encodeFloats } from "../../../src/formats/dtype.ts";
import { openSafetensors } from "../../../src/formats/safetensors/reader.ts";
import { PIECE_BYTES, PositionalFile } from "../../../src/io/positional-file.ts";
import { fileBytes, gather, temporaryFolders, writeTensors } from "../../io/support.ts";
import { failureOf } from "../../support/failure.ts";

const temporaryFolder = temporaryFolders();

/** A file with one tensor of each float format, all with the same values, and one of integers; nothing is aligned. */
async function mixedFile(values: Float32Array): Promise<string> {
  const names = ["F64", "F32", "F16", "BF16"] as const;
  const parts = [Uint8Array.of(7), ...names.map((dtype) => encodeFloats(values, dtype).slice())];
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  let at = 0;
  for (const [i, part] of parts.entries()) {
    const [name, dtype, shape] = i === 0 ? ["byte", "U8", [1]] : [names[i - 1], names[i - 1], [values.length]];
    header[name as string] = { dtype, shape, data_offsets: [at, at + part.byteLength] };
    at += part.byteLength;
  }
  return writeTensors(join(await temporaryFolder(), "mixed.safetensors"), header, Buffer.concat(parts));
}

describe("an open safetensors file", () => {
  it("an open file tells names, dtypes, shapes and absolute places", async () => {
    const path = await mixedFile(Float32Array.of(1, 2, 3));
    const reader = await openSafetensors(path);
    expect([...reader.tensors.keys()]).toEqual(["byte", "F64", "F32", "F16", "BF16"]);
    const f32 = reader.tensors.get("F32");
    expect(f32).toMatchObject({ dtype: "F32", shape: [3], byteLength: 12, file: path });
    const handle = await open(path);
    const { buffer } = await handle.read(Buffer.alloc(12), 0, 12, f32?.offset as number);
    await handle.close();
    expect([buffer.readFloatLE(0), buffer.readFloatLE(4), buffer.readFloatLE(8)]).toEqual([1, 2, 3]);
    expect(reader).toMatchObject({ path, files: [path], warnings: [] });
    expect(reader.byteLength).toBe((f32?.offset as number) - 25 + 1 + 24 + 12 + 6 + 6);
    expect({ ...reader.metadata }).toEqual({ format: "pt" });
    await reader.close();
  });

  it("every float format is read as float32", async () => {
    const values = Float32Array.of(0, -1.5, 0.25, 1024);
    const reader = await openSafetensors(await mixedFile(values));
    for (const name of ["F64", "F32", "F16", "BF16"]) expect(await reader.readF32(name)).toEqual(values);
    await reader.close();
  });

  it("reading fills a given array and returns the part it used", async () => {
    const reader = await openSafetensors(await mixedFile(Float32Array.of(1, 2)));
    for (const name of ["F32", "BF16"]) {
      const into = new Float32Array(3).fill(9);
      expect([...(await reader.readF32(name, into))]).toEqual([1, 2]);
      expect([...into]).toEqual([1, 2, 9]);
    }
    await reader.close();
  });

  it("a given array that is too short is refused", async () => {
    const reader = await openSafetensors(await mixedFile(Float32Array.of(1, 2)));
    for (const name of ["F32", "F16"]) {
      await expect(reader.readF32(name, new Float32Array(1))).rejects.toThrow("2 values do not fit in 1");
    }
    await reader.close();
  });

  it("integers are refused where floats are asked for", async () => {
    const path = await mixedFile(Float32Array.of(1));
    const reader = await openSafetensors(path);
    const fault = await failureOf(() => reader.readF32("byte"));
    expect(fault.code).toBe("unsupported");
    expect(fault.message).toBe(`${path}: tensor "byte": U8 is no float format`);
    await reader.close();
  });

  it("the refusal of an unknown name says the file and the tensor", async () => {
    const path = await mixedFile(Float32Array.of(1));
    const reader = await openSafetensors(path);
    const calls = [() => reader.readBytes("nope"), () => reader.readF32("nope"), () => reader.chunks("nope")];
    for (const call of calls) {
      const fault = await failureOf(call);
      expect(fault.code).toBe("not-found");
      expect(fault.message).toBe(`${path}: no tensor "nope"`);
    }
    await reader.close();
  });

  it("bytes that were read are a copy, which later reads leave alone", async () => {
    const reader = await openSafetensors(await mixedFile(Float32Array.of(1, 2)));
    const first = await reader.readBytes("F32");
    await reader.readBytes("F16");
    expect(first).toEqual(encodeFloats(Float32Array.of(1, 2), "F32"));
    await reader.close();
  });

  it("a file can be closed twice, and then refuses to read", async () => {
    const reader = await openSafetensors(await mixedFile(Float32Array.of(1)));
    await reader.close();
    await reader.close();
    await expect(reader.readBytes("F32")).rejects.toThrow("the reader is closed");
  });

  it("every kind of value that was stored is read back", async () => {
    const float = fc.float({ noNaN: true });
    await fc.assert(
      fc.asyncProperty(fc.array(float, { maxLength: 40 }), async (list) => {
        const values = Float32Array.from(list);
        const reader = await openSafetensors(await mixedFile(values));
        expect(await reader.readF32("F32")).toEqual(values);
        expect(await reader.readF32("F64")).toEqual(values);
        await reader.close();
      }),
      { numRuns: 25 },
    );
  });
});

describe("pieces of a tensor", () => {
  const size = 2 * PIECE_BYTES + 12;

  async function largeFile(): Promise<{ path: string; data: Buffer }> {
    const data = Buffer.alloc(size);
    for (let at = 0; at < size; at += 4) data.writeUInt32LE(at, at);
    const header = { a: { dtype: "F32", shape: [size / 4], data_offsets: [0, size] } };
    return { path: await writeTensors(join(await temporaryFolder(), "large.safetensors"), header, data), data };
  }

  it("pieces are 8 MiB each, the last shorter, and all views of one buffer", async () => {
    const { path, data } = await largeFile();
    const reader = await openSafetensors(path);
    const lengths: number[] = [];
    const buffers = new Set<ArrayBufferLike>();
    for await (const piece of reader.chunks("a")) {
      lengths.push(piece.byteLength);
      buffers.add(piece.buffer);
      expect(piece.byteOffset).toBe(0);
    }
    for await (const piece of reader.chunks("a")) buffers.add(piece.buffer);
    expect(lengths).toEqual([PIECE_BYTES, PIECE_BYTES, 12]);
    expect(buffers.size).toBe(1);
    expect((await gather(reader.chunks("a"))).equals(data)).toBe(true);
    await reader.close();
  });

  it("pieces of two iterations at the same time do not disturb each other", async () => {
    const { path, data } = await largeFile();
    const reader = await openSafetensors(path);
    const [first, second] = await Promise.all([gather(reader.chunks("a")), gather(reader.chunks("a"))]);
    expect(first.equals(data) && second.equals(data)).toBe(true);
    await reader.close();
  });

  it("an empty tensor has no pieces", async () => {
    const header = { a: { dtype: "F32", shape: [0], data_offsets: [0, 0] } };
    const reader = await openSafetensors(await writeTensors(join(await temporaryFolder(), "e.safetensors"), header));
    expect((await gather(reader.chunks("a"))).byteLength).toBe(0);
    expect((await reader.readF32("a")).length).toBe(0);
    await reader.close();
  });

  it("pieces are converted one by one when a large tensor is read as float32", async () => {
    const count = PIECE_BYTES / 2 + 3;
    const data = Buffer.alloc(count * 2);
    for (let i = 0; i < count; i++) data.writeUInt16LE(0x3f80 + (i % 7), i * 2);
    const header = { a: { dtype: "BF16", shape: [count], data_offsets: [0, count * 2] } };
    const reader = await openSafetensors(
      await writeTensors(join(await temporaryFolder(), "b.safetensors"), header, data),
    );
    const values = await reader.readF32("a");
    const expected = (i: number) => 1 + (i % 7) / 128;
    expect([values[0], values[count - 4], values[count - 1]]).toEqual([0, count - 4, count - 1].map(expected));
    await reader.close();
  });

  it("pieces are never asked for beyond the file", async () => {
    const { path } = await largeFile();
    const file = await PositionalFile.open(path);
    await expect(gather(file.pieces(1, file.size))).rejects.toThrow(`the file has only ${file.size} bytes`);
    await file.close();
  });

  it("reading pieces reports a file that was cut while it was open", async () => {
    const { path } = await largeFile();
    const reader = await openSafetensors(path);
    const offset = reader.tensors.get("a")?.offset as number;
    await truncate(path, offset + PIECE_BYTES);
    const fault = await failureOf(() => gather(reader.chunks("a")));
    expect(fault.code).toBe("io");
    expect(fault.message).toBe(
      `${path}: the file ends at byte ${offset + PIECE_BYTES}; it has been cut since it was opened`,
    );
    await reader.close();
  });
});

describe("a file larger than 4 GiB", () => {
  it("a file larger than 4 GiB is read at its end, without touching the rest", async () => {
    const gap = 4.5 * 2 ** 30;
    const path = join(await temporaryFolder(), "sparse.safetensors");
    const header = {
      gap: { dtype: "U8", shape: [gap], data_offsets: [0, gap] },
      tail: { dtype: "F32", shape: [2], data_offsets: [gap, gap + 8] },
    };
    const start = fileBytes(JSON.stringify(header));
    const handle = await open(path, "w");
    await handle.write(start, 0, start.byteLength, 0);
    await handle.write(Buffer.from(Float32Array.of(3.5, -2).buffer), 0, 8, start.byteLength + gap);
    await handle.close();
    const reader = await openSafetensors(path);
    expect([...(await reader.readF32("tail"))]).toEqual([3.5, -2]);
    expect(reader.byteLength).toBe(start.byteLength + gap + 8);
    const fault = await failureOf(() => reader.readBytes("gap"));
    expect(fault.message).toBe(`${path}: tensor "gap": ${gap} bytes do not fit in one array`);
    await reader.close();
  });
});

describe("a file that cannot be opened", () => {
  it("a file that does not exist is reported", async () => {
    const path = join(await temporaryFolder(), "none.safetensors");
    const fault = await failureOf(() => openSafetensors(path));
    expect(fault).toMatchObject({
      code: "not-found",
      message: `${path}: no such file or folder`,
      hint: "check the path",
    });
  });

  it("a folder in the place of a file is reported", async () => {
    const path = join(await temporaryFolder(), "folder.safetensors");
    await mkdir(path);
    const fault = await failureOf(() => openSafetensors(path));
    expect(fault).toMatchObject({ code: "io", message: `${path}: this is a folder, a file is expected` });
  });

  it.skipIf(process.platform === "win32")(
    "a device in the place of a file is reported, instead of waiting for it",
    async () => {
      const fault = await failureOf(() => openSafetensors("/dev/null"));
      expect(fault.message).toBe("/dev/null: this is no regular file, a file is expected");
    },
  );

  it("an empty file is reported", async () => {
    const path = join(await temporaryFolder(), "empty.safetensors");
    await writeFile(path, "");
    expect((await failureOf(() => openSafetensors(path))).message).toBe(
      `${path}: 0 bytes are too few for a safetensors file`,
    );
  });

  it("a broken header is reported", async () => {
    const path = join(await temporaryFolder(), "broken.safetensors");
    await writeFile(path, fileBytes("[]"));
    expect((await failureOf(() => openSafetensors(path))).message).toBe(
      `${path}: the header is an array, not an object`,
    );
  });

  it.skipIf(!existsSync("/proc/self/fd"))("a file that cannot be opened is closed again", async () => {
    const path = join(await temporaryFolder(), "broken.safetensors");
    await writeFile(path, fileBytes("[]"));
    const stillOpen = async () => (await openPaths()).filter((name) => name === path).length;
    const handle = await open(path);
    expect(await stillOpen()).toBe(1);
    await handle.close();
    await failureOf(() => openSafetensors(path));
    expect(await stillOpen()).toBe(0);
  });

  it("a header that claims more than the file has costs 8 bytes of reading", async () => {
    const path = join(await temporaryFolder(), "claim.safetensors");
    const bytes = fileBytes("{}", 1990);
    bytes.writeBigUInt64LE(24_999_999n);
    await writeFile(path, bytes);
    const probe = await open(path);
    const read = vi.spyOn(Object.getPrototypeOf(probe), "read");
    const fault = await failureOf(() => openSafetensors(path));
    expect(read.mock.calls.map(([buffer]) => (buffer as Uint8Array).byteLength)).toEqual([8]);
    read.mockRestore();
    await probe.close();
    expect(fault.message).toBe(`${path}: the header claims 24999999 bytes, but the file has only 2000`);
  });
});

/** What this process has open, on Linux. */
async function openPaths(): Promise<string[]> {
  const folder = "/proc/self/fd";
  const links = (await readdir(folder)).map((name) => readlink(join(folder, name)).catch(() => ""));
  return Promise.all(links);
}
