// Walks over the fields of a protobuf file by position: payloads are skipped unread, so that memory and time do not
// grow with them, and a hostile file can ask for neither.
import { NfcError } from "../../errors.ts";
import type { PositionalFile } from "../../io/positional-file.ts";
import { decodeUtf8 } from "../json-strict.ts";

/** Bytes read at once: few, because only some dozen bytes between two skipped payloads are needed. */
const WINDOW_BYTES = 16 * 1024;
/** Bytes of the longest key and the longest varint: with these in the window, a field's head can be read. */
const MAX_HEAD = 20;
const MAX_VARINT = 10;
/** Fields of one file; GPT-2 xl as ONNX has fewer than a hundred thousand. */
const MAX_FIELDS = 1_000_000;
/** Bytes of one text, and of all that are read from one file. */
const MAX_TEXT = 2 ** 20;
const MAX_TEXTS = 2 ** 24;
/** Bytes of a list of numbers in one field: a shape, an attribute. */
const MAX_LIST = WINDOW_BYTES;

/** Bytes `begin` to `end` of the file. */
export interface ByteRange {
  begin: number;
  end: number;
}

/** One field. The range is that of its payload; the payload of a varint is the number itself. */
export interface WireField extends ByteRange {
  id: number;
  /** 0: varint, 1: eight bytes, 2: bytes of a stated length, 5: four bytes. */
  wire: number;
  /** The value of a varint as int64, rounded beyond 2^53; 0 for the other wire types. */
  value: number;
}

export class ProtobufScanner {
  private readonly file: PositionalFile;
  private readonly window: Uint8Array;
  /** The window holds the bytes `start` to `end`. */
  private start = 0;
  private end = 0;
  private at = 0;
  private fields = 0;
  private texts = 0;

  constructor(file: PositionalFile) {
    this.file = file;
    this.window = new Uint8Array(Math.min(WINDOW_BYTES, file.size));
  }

  /** The outermost message. */
  get whole(): ByteRange {
    return { begin: 0, end: this.file.size };
  }

  /**
   * Calls `visit` for each field of a message, in order. A field never reaches beyond its message.
   * @throws NfcError `invalid-file`
   */
  async scan(message: ByteRange, visit: (field: WireField) => void | Promise<void>): Promise<void> {
    for (let at = message.begin; at < message.end; ) {
      if (++this.fields > MAX_FIELDS) throw this.invalid(`has more than ${MAX_FIELDS} fields`);
      const head = Math.min(MAX_HEAD, message.end - at);
      if (!this.holds(at, head)) await this.load(at);
      const field = this.readField(at, message.end);
      at = field.end;
      const pending = visit(field);
      if (pending) await pending;
    }
  }

  /** @throws NfcError `invalid-file` for malformed UTF-8, and for more text than a model can need */
  async readText({ begin, end }: ByteRange): Promise<string> {
    const length = end - begin;
    this.texts += length;
    if (length > MAX_TEXT || this.texts > MAX_TEXTS)
      throw this.invalid(`${length} bytes of text at byte ${begin} are too much`);
    return decodeUtf8(await this.readBytes({ begin, end }), `${this.file.path}: the text at byte ${begin}`);
  }

  /** Reads the int64 numbers of one field of a list: a single number, or all of a packed list. */
  async readInts(field: WireField): Promise<number[]> {
    if (field.wire === 0) return [field.value];
    if (field.end - field.begin > MAX_LIST) throw this.invalid(`the list at byte ${field.begin} is too long`);
    if (!this.holds(field.begin, field.end - field.begin)) await this.load(field.begin);
    const values: number[] = [];
    for (this.at = field.begin; this.at < field.end; ) values.push(this.readVarint(field.end));
    return values;
  }

  invalid(fact: string): NfcError {
    return new NfcError("invalid-file", `${this.file.path}: ${fact}`, { hint: "download or export the file again" });
  }

  private readField(at: number, end: number): WireField {
    this.at = at;
    const key = this.readVarint(end);
    const id = Math.floor(key / 8);
    const wire = key % 8;
    if (id < 1 || id >= 2 ** 29) throw this.invalid(`byte ${at} begins no protobuf field`);
    if (wire === 0) {
      const begin = this.at;
      const value = this.readVarint(end);
      return { id, wire, value, begin, end: this.at };
    }
    const length = wire === 2 ? this.readVarint(end) : { 1: 8, 5: 4 }[wire];
    if (length === undefined) throw this.invalid(`byte ${at} begins a field of unknown kind ${wire}`);
    const begin = this.at;
    if (length < 0 || length > end - begin)
      throw this.invalid(`the field at byte ${at} asks for ${length} bytes, ${end - begin} are left of its message`);
    return { id, wire, value: 0, begin, end: begin + length };
  }

  /** Reads the int64 at `at` and moves `at` behind it. The window must hold its bytes. */
  private readVarint(end: number): number {
    const first = this.at;
    let value = 0;
    for (let i = 0; i < MAX_VARINT && first + i < end; i++) {
      const byte = this.window[first + i - this.start] as number;
      value += (byte & 127) * 2 ** (7 * i);
      if (byte >= 128) continue;
      this.at = first + i + 1;
      return i < MAX_VARINT - 1 ? value : this.negative(first);
    }
    throw this.invalid(`the number at byte ${first} does not end`);
  }

  /** Reads ten bytes as two's complement: the sum of floats in readVarint would lose the low bits. */
  private negative(first: number): number {
    let value = 0n;
    for (let i = 0; i < MAX_VARINT; i++)
      value |= BigInt((this.window[first + i - this.start] as number) & 127) << BigInt(7 * i);
    return Number(BigInt.asIntN(64, value));
  }

  private async readBytes({ begin, end }: ByteRange): Promise<Uint8Array> {
    const length = end - begin;
    if (length > this.window.byteLength) return this.file.read(begin, length);
    if (!this.holds(begin, length)) await this.load(begin);
    return this.window.subarray(begin - this.start, end - this.start);
  }

  private holds(at: number, length: number): boolean {
    return at >= this.start && at + length <= this.end;
  }

  /** Fills the window from `at` on. */
  private async load(at: number): Promise<void> {
    const count = Math.min(this.window.byteLength, this.file.size - at);
    await this.file.readInto(this.window.subarray(0, count), at);
    this.start = at;
    this.end = at + count;
  }
}
