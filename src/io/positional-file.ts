// Reads a file by position, in pieces of a reused buffer, so that memory does not grow with the file.
import { constants, type Stats } from "node:fs";
import { type FileHandle, lstat, open, stat } from "node:fs/promises";
import { NfcError } from "../errors.ts";
import { LFS_STARTS } from "./file-format.ts";
import { withIoErrors } from "./io-error.ts";
import { countRead } from "./timings.ts";

/**
 * Bytes of one piece. It is large enough that the calls cost nothing, small enough for a core's cache, and a
 * multiple of every element size, so that no piece but the last can split an element.
 */
export const PIECE_BYTES = 2 * 1024 * 1024;

/** Pointers of Git LFS have some 130 bytes. */
const MAX_POINTER_BYTES = 1024;

/** The largest file that is read as a whole: tokenizers have some 30 MB, and more is a mistake or an attack. */
const MAX_WHOLE_BYTES = 256 * 2 ** 20;

export interface FileOptions {
  /** The path that messages name, where it is another one. */
  shown?: string | undefined;
  /** Whether a link at the path is refused. */
  refuseLink?: boolean | undefined;
}

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
  static open(path: string, { shown = path, refuseLink = false }: FileOptions = {}): Promise<PositionalFile> {
    return withIoErrors(shown, async () => {
      // Before it is opened: opening a device may do something.
      requireRegular(await (refuseLink ? lstat(path) : stat(path)), shown);
      // Another file may have taken its place: a pipe without a writer does not block, and is refused as well.
      const { O_RDONLY, O_NONBLOCK = 0, O_NOFOLLOW = 0 } = constants;
      const handle = await open(path, O_RDONLY | O_NONBLOCK | (refuseLink ? O_NOFOLLOW : 0));
      try {
        const status = await handle.stat();
        requireRegular(status, shown);
        const file = new PositionalFile(shown, status.size, handle);
        if (status.size <= MAX_POINTER_BYTES) refuseLfsPointer(await file.read(0, status.size), shown);
        return file;
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
      countRead(bytesRead);
      done += bytesRead;
    }
  }

  /** The `length` bytes from `offset` on, in a new array. @throws NfcError `io` when the file ends before */
  async read(offset: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    await this.readInto(bytes, offset);
    return bytes;
  }

  /** The whole content. @throws NfcError `invalid-file` for more than `maxBytes` */
  async readWhole(maxBytes = MAX_WHOLE_BYTES): Promise<Uint8Array> {
    if (this.size <= maxBytes) return this.read(0, this.size);
    throw new NfcError(
      "invalid-file",
      `${this.path}: ${this.size} bytes, more than the ${maxBytes} that are allowed here`,
      {
        hint: "is it the right file? Restore or replace it",
      },
    );
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

/** @throws NfcError of this code for a folder, a pipe, a device, a link and so on */
export function requireRegular(status: Stats, path: string, code: "io" | "invalid-file" = "io"): void {
  if (status.isFile()) return;
  const what = status.isDirectory() ? "a folder" : "no regular file";
  const hint = code === "io" ? "check the path" : "delete or replace it";
  throw new NfcError(code, `${path}: this is ${what}, a file is expected`, { hint });
}

/** @throws NfcError `unsupported` for what a clone without git-lfs holds instead of a large file */
function refuseLfsPointer(begin: Uint8Array, path: string): void {
  const text = Buffer.from(begin).toString("latin1");
  if (!LFS_STARTS.some((start) => text.startsWith(start))) return;
  throw new NfcError("unsupported", `${path}: is a Git LFS pointer, not the file itself`, {
    hint: "fetch the files: git lfs pull",
  });
}

/** Opens the file at `path` for `use`, and closes it afterwards. @throws NfcError as {@link PositionalFile.open} */
export async function withFile<T>(
  path: string,
  use: (file: PositionalFile) => Promise<T>,
  options: FileOptions = {},
): Promise<T> {
  const file = await PositionalFile.open(path, options);
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}
