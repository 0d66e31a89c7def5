// Encodes plain objects as protobuf messages by the schema, with the fields in the order of their numbers.
import { findSchema, type SchemaField } from "./schema.ts";

/**
 * The bytes of a message. As in proto3, a number that is 0, an empty text, empty bytes and an empty list are not written;
 * readers take absent fields for these values.
 * Sources: https://protobuf.dev/programming-guides/encoding and https://protobuf.dev/programming-guides/field_presence
 * @throws Error for a value that does not fit its field, and for a field that the schema lacks
 */
export function encodeMessage(message: string, value: object): Uint8Array {
  const encoder = new Encoder();
  encoder.prepend(message, value);
  return encoder.finish();
}

/** The bytes before a payload that the caller writes itself: the key of a field, and the payload's length. */
export function encodeHead(message: string, name: string, byteLength: number): Uint8Array {
  const field = [...findSchema(message).values()].find((one) => one.name === name);
  if (field?.wire !== 2) throw new Error(`${message}.${name} is no field of a stated length`);
  const encoder = new Encoder();
  encoder.prependHead(field, byteLength);
  return encoder.finish();
}

/** Writes from the last byte to the first: the length of a nested message is known before it is written. */
class Encoder {
  private bytes = Buffer.allocUnsafe(1024);
  /** The place at which the written part begins; it ends with the buffer. */
  private at = this.bytes.length;

  prepend(message: string, value: object): void {
    const given = value as Readonly<Record<string, unknown>>;
    let known = 0;
    for (const field of [...findSchema(message).values()].reverse()) {
      const content = given[field.name];
      if (content === undefined) continue;
      known++;
      if (!field.repeated) {
        if (field.explicit || !isDefault(content)) this.prependField(message, field, content);
      } else if (Array.isArray(content)) {
        for (let i = content.length - 1; i >= 0; i--) this.prependField(message, field, content[i]);
      } else throw new Error(`${message}.${field.name}: a list is expected`);
    }
    if (known < Object.values(given).filter((one) => one !== undefined).length)
      throw new Error(`${message} has not all of the fields ${Object.keys(given).join(", ")}`);
  }

  /** The key, id · 8 + wire type, before a payload of a stated length, or before the number itself. */
  prependHead({ id, wire }: SchemaField, value: number | bigint): void {
    this.prependVarint(value);
    this.prependVarint(id * 8 + wire);
  }

  finish(): Uint8Array {
    return Uint8Array.prototype.slice.call(this.bytes, this.at);
  }

  private prependField(message: string, field: SchemaField, value: unknown): void {
    const { kind } = field;
    const end = this.bytes.length - this.at; // counted from the end of the buffer, which grows at its beginning
    if (kind === "int" && (typeof value === "number" || typeof value === "bigint")) {
      this.prependHead(field, value);
    } else if (kind === "float" && typeof value === "number") {
      this.reserve(4).writeFloatLE(value);
      this.prependVarint(field.id * 8 + field.wire);
    } else {
      if (kind === "string" && typeof value === "string") this.reserve(Buffer.byteLength(value)).write(value);
      else if (kind === "bytes" && value instanceof Uint8Array) this.reserve(value.byteLength).set(value);
      else if (kind === "message" && typeof value === "object" && value !== null) this.prepend(field.message, value);
      else throw new Error(`${message}.${field.name}: ${kind} is expected, not ${typeof value}`);
      this.prependHead(field, this.bytes.length - this.at - end);
    }
  }

  /**
   * An int64 as groups of 7 bits, the lowest first; bit 7 says that another follows. Negative numbers are written as
   * 2^64 + value, in ten bytes.
   * @throws Error for a number that is no int64
   */
  private prependVarint(value: number | bigint): void {
    const groups: number[] = [];
    let rest = value;
    if (typeof rest === "bigint" || !Number.isSafeInteger(rest) || rest < 0) {
      const exact = BigInt(rest);
      if (BigInt.asIntN(64, exact) !== exact) throw new Error(`${value} is no int64`);
      let high = BigInt.asUintN(64, exact);
      for (; high >= 2n ** 52n; high >>= 7n) groups.push(Number(high & 127n) | 128);
      rest = Number(high);
    }
    for (; rest >= 128; rest = Math.floor(rest / 128)) groups.push((rest % 128) | 128);
    groups.push(rest);
    this.reserve(groups.length).set(groups);
  }

  /** The bytes before those that are written, to be filled in. */
  private reserve(length: number): Buffer {
    if (length > this.at) {
      const written = this.bytes.subarray(this.at);
      this.bytes = Buffer.allocUnsafe(2 * this.bytes.length + length);
      this.at = this.bytes.length - written.length;
      this.bytes.set(written, this.at);
    }
    this.at -= length;
    return this.bytes.subarray(this.at, this.at + length);
  }
}

function isDefault(value: unknown): boolean {
  return Object.is(value, 0) || value === 0n || value === "" || (value instanceof Uint8Array && value.length === 0);
}
