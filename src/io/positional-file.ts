// Reads a file by position, in pieces of a reused buffer, so that memory does not grow with the file.
import { type FileHandle, open, stat } from "node:fs/promises";
import { NfcError } from "../errors.ts";
import { withIoErrors } from "./io-error.ts";

/**
 * Bytes of one piece. It is large enough that the calls cost nothing, small enough for the processor's cache, and a
 * multiple of every element size, so that no piece but the last can split an element.
 */
export const PIECE_BYTES = 8 * 1024 * 1024;

/** What a clone without git-lfs holds instead of each large file: some 130 bytes that begin so. */
const LFS_POINTER = Buffer.from("version https://git-lfs.github.com/spec/");
const MAX_POINTER_BYTES = 1024;

/** An open file of known size. Offsets may lie beyond 4 GiB. */
export class PositionalFile {
  readonly path: string;
  /** Bytes at the time of opening. */
  readonly size: number;
  private readonly handle: FileHandle;
  /** Buffers that no iteration uses: as many as ever ran at the same time, in practice one. */
  private readonly idle: Uint8Array[] = [];

  private constructor(path: string, size: number, handle: FileHandle) {
    this.path = path;
    this.size = size;
    this.handle = handle;
  }

  /** @throws NfcError `not-found`, `io` when `path` is a folder or may not be read, `unsupported` for a Git LFS pointer */
  static open(path: string): Promise<PositionalFile> {
    return withIoErrors(path, async () => {
      const status = await stat(path); // checked before open, which would wait for ever on a pipe without a writer
      if (!status.isFile()) {
        const what = status.isDirectory() ? "a folder" : "no regular file";
        throw new NfcError("io", `${path}: this is ${what}, a file is expected`, { hint: "check the path" });
      }
      const handle = await open(path, "r");
      try {
        const { size } = await handle.stat();
        if (!(await isLfsPointer(handle, size))) return new PositionalFile(path, size, handle);
        throw new NfcError("unsupported", `${path}: is a Git LFS pointer, not the file itself`, {
          hint: "fetch the files: git lfs pull",
        });
      } catch (error) {
        await handle.close();
        throw error;
      }
    });
  }

  /**
   * Fills `target` with the bytes from `offset` on.
   * @throws NfcError `io` when the file ends before.
   */
  async readInto(target: Uint8Array, offset: number): Promise<void> {
    let done = 0;
    while (done < target.byteLength) {
      const length = Math.min(PIECE_BYTES, target.byteLength - done);
      const position = offset + done;
      const { bytesRead } = await withIoErrors(this.path, () => this.handle.read(target, done, length, position));
      if (bytesRead === 0) {
        const message = `${this.path}: the file ends at byte ${position}; it has been cut since it was opened`;
        throw new NfcError("io", message, { hint: "do not write to a checkpoint while it is being read" });
      }
      done += bytesRead;
    }
  }

  /** The `length` bytes from `offset` on, in a new array. @throws NfcError `io` when the file ends before */
  async read(offset: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    await this.readInto(bytes, offset);
    return bytes;
  }

  /**
   * Reads the bytes `offset` to `offset + length` in pieces of {@link PIECE_BYTES} (the last may be shorter). All pieces are
   * views of one buffer, from its start: each is valid until the next is asked for.
   */
  async *pieces(offset: number, length: number): AsyncGenerator<Uint8Array, void, undefined> {
    if (offset + length > this.size) throw new RangeError(`${this.path}: the file has only ${this.size} bytes`);
    const buffer = this.idle.pop() ?? new Uint8Array(Math.min(PIECE_BYTES, this.size));
    try {
      for (let done = 0; done < length; done += PIECE_BYTES) {
        const piece = buffer.subarray(0, Math.min(PIECE_BYTES, length - done));
        await this.readInto(piece, offset + done);
        yield piece;
      }
    } finally {
      this.idle.push(buffer);
    }
  }

  close(): Promise<void> {
    this.idle.length = 0;
    return withIoErrors(this.path, () => this.handle.close());
  }
}

async function isLfsPointer(handle: FileHandle, size: number): Promise<boolean> {
  if (size < LFS_POINTER.byteLength || size > MAX_POINTER_BYTES) return false;
  const { buffer } = await handle.read(Buffer.alloc(LFS_POINTER.byteLength), 0, LFS_POINTER.byteLength, 0);
  return buffer.equals(LFS_POINTER);
}

/** Opens the file at `path` for `use`, and closes it afterwards. @throws NfcError as {@link PositionalFile.open} */
export async function withFile<T>(path: string, use: (file: PositionalFile) => Promise<T>): Promise<T> {
  const file = await PositionalFile.open(path);
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}
