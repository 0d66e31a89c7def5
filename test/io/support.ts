// Shared by the io tests: temporary folders, hand-made safetensors files, and all bytes of an iteration.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";

/** A function that gives each test a folder of its own; all are removed after the tests of the file. */
export function temporaryFolders(): () => Promise<string> {
  const made: string[] = [];
  afterAll(async () => {
    for (const folder of made) await rm(folder, { recursive: true, force: true });
  });
  return async () => {
    const folder = await mkdtemp(join(tmpdir(), "nfc-io-"));
    made.push(folder);
    return folder;
  };
}

/** 8 bytes of length, the header as it is (text or bytes), then `data`. */
export function fileBytes(header: string | Uint8Array, data: Uint8Array | number = 0): Buffer {
  const json = Buffer.from(header as string);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(json.byteLength));
  return Buffer.concat([prefix, json, typeof data === "number" ? new Uint8Array(data) : data]);
}

export async function writeTensors(path: string, header: unknown, data: Uint8Array | number = 0): Promise<string> {
  await writeFile(path, fileBytes(JSON.stringify(header), data));
  return path;
}

/** All bytes of an iteration whose pieces share a buffer. */
export async function gather(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const copies: Buffer[] = [];
  for await (const chunk of chunks) copies.push(Buffer.from(chunk));
  return Buffer.concat(copies);
}
