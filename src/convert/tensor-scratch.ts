// Tensors that a conversion has made, on disk until they are written: those of GPT-2 XL would take gigabytes of memory.
import { type FileHandle, open, rm } from "node:fs/promises";
import { writeFully } from "../io/durable.ts";
import { withIoErrors } from "../io/io-error.ts";
import { withFile } from "../io/positional-file.ts";

export class TensorScratch {
  private readonly path: string;
  private readonly file: FileHandle;
  private readonly places = new Map<string, { at: number; bytes: number }>();
  private end = 0;

  private constructor(path: string, file: FileHandle) {
    this.path = path;
    this.file = file;
  }

  /** Creates the file. @throws NfcError where it is there already, or cannot be written */
  static async create(path: string): Promise<TensorScratch> {
    return new TensorScratch(path, await withIoErrors(path, () => open(path, "wx")));
  }

  /** Keeps a tensor under a name; a later one of the same name takes its place. */
  async put(name: string, values: Float32Array): Promise<void> {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const at = this.end;
    this.end += bytes.byteLength;
    await withIoErrors(this.path, () => writeFully(this.file, bytes, at));
    this.places.set(name, { at, bytes: bytes.byteLength });
  }

  /** @throws Error for a name that was not put */
  async read(name: string): Promise<Float32Array> {
    const place = this.places.get(name);
    if (!place) throw new Error(`${name} is not in the scratch file`);
    const values = new Float32Array(place.bytes / Float32Array.BYTES_PER_ELEMENT);
    await withFile(this.path, (scratch) => scratch.readInto(new Uint8Array(values.buffer), place.at));
    return values;
  }

  async remove(): Promise<void> {
    await withIoErrors(this.path, () => this.file.close());
    await withIoErrors(this.path, () => rm(this.path, { force: true }));
  }
}
