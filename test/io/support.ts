// Shared by the io tests: temporary folders, hand-made safetensors files, and looking at what a call threw.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect } from "vitest";
import { NfcError } from "../../src/errors.ts";

/** A function that gives each test a folder of its own; it is removed after the test. */
export function temporaryFolders(): () => Promise<string> {
  const made: string[] = [];
  afterEach(async () => {
    for (const folder of made.splice(0)) await rm(folder, { recursive: true, force: true });
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

/** The NfcError that `call` throws or rejects with; the test fails when it does neither, or throws something else. */
export async function faultOf(call: () => unknown): Promise<NfcError> {
  try {
    await call();
  } catch (error) {
    expect(error).toBeInstanceOf(NfcError);
    const fault = error as NfcError;
    expect(fault.message).not.toContain("\n");
    return fault;
  }
  throw new Error("nothing was thrown");
}

/** All bytes of an iteration whose pieces share a buffer. */
export async function gather(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const copies: Buffer[] = [];
  for await (const chunk of chunks) copies.push(Buffer.from(chunk));
  return Buffer.concat(copies);
}
