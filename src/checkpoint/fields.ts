// Typed access to the fields of an untrusted JSON object; each error names file, field and value.
import { NfcError } from "../errors.ts";
import { escapeJson, quoteUntrusted } from "../io/printable.ts";

/** How much of a wrong value an error message quotes. */
const MAX_QUOTED = 60;

export interface Range {
  min: number;
  max: number;
  /** Other names of the same field; two that are both there must agree. */
  aliases?: readonly string[] | undefined;
}

/** A value as it would stand in JSON: on one line, without control characters, shortened. */
export function quote(value: unknown): string {
  if (typeof value === "string") return quoteUntrusted(value);
  const text = escapeJson(value);
  return text.length > MAX_QUOTED ? `${text.slice(0, MAX_QUOTED)}…` : text;
}

/** A tensor's name as lists show it: quoted only if it is odd. */
export function showName(name: string): string {
  return /^[\w./-]{1,120}$/.test(name) ? name : quoteUntrusted(name);
}

/** True for what JSON calls an object. */
export function isJsonObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Reads fields of one object. null counts as absent, as Python's None does in config.json. */
export class FieldReader {
  readonly raw: Record<string, unknown>;
  readonly file: string;

  /** @throws NfcError `invalid-file` when `raw` is not an object. */
  constructor(raw: unknown, file: string) {
    if (!isJsonObject(raw)) throw new NfcError("invalid-file", `${file}: is ${quote(raw)}, not a JSON object`);
    this.raw = raw;
    this.file = file;
  }

  has(key: string): boolean {
    return Object.hasOwn(this.raw, key) && this.raw[key] !== null && this.raw[key] !== undefined;
  }

  value(key: string): unknown {
    return this.has(key) ? this.raw[key] : undefined;
  }

  integer(key: string, range: Range): number | undefined {
    const found = [key, ...(range.aliases ?? [])].filter((name) => this.has(name));
    const values = found.map((name) => this.check(name, range, "an integer", Number.isInteger));
    const other = values.findIndex((value) => value !== values[0]);
    if (other > 0) {
      const message = `${this.file}: ${found[0]} is ${values[0]}, but ${found[other]} is ${values[other]}`;
      throw new NfcError("invalid-file", message, { hint: "they are two names of one number: delete the wrong one" });
    }
    return values[0];
  }

  number(key: string, range: Range): number | undefined {
    return this.has(key) ? this.check(key, range, "a number", Number.isFinite) : undefined;
  }

  flag(key: string): boolean | undefined {
    const value = this.value(key);
    if (value === undefined || typeof value === "boolean") return value;
    throw this.wrong(key, "true or false");
  }

  text(key: string): string | undefined {
    const value = this.value(key);
    if (value === undefined || typeof value === "string") return value;
    throw this.wrong(key, "a string");
  }

  /** The error for a field of the wrong type or size. */
  wrong(key: string, expected: string): NfcError {
    return new NfcError("invalid-file", `${this.file}: ${key} is ${quote(this.raw[key])}, expected ${expected}`, {
      hint: `correct ${key} in ${this.file}`,
    });
  }

  private check(key: string, range: Range, kind: string, accepts: (value: number) => boolean): number {
    const value = this.raw[key];
    if (typeof value !== "number" || !accepts(value) || value < range.min || value > range.max) {
      throw this.wrong(key, `${kind} from ${range.min} to ${range.max}`);
    }
    return value;
  }
}

/** A token id or a list of them, negative ones meaning none; undefined without the key. */
export function readTokenIds(fields: FieldReader, key: string): number[] | undefined {
  if (!Object.hasOwn(fields.raw, key)) return undefined;
  const value = fields.value(key) ?? [];
  const ids: unknown[] = Array.isArray(value) ? value : [value];
  if (!ids.every((id): id is number => Number.isSafeInteger(id))) throw fields.wrong(key, "a token id");
  return ids.filter((id) => id >= 0);
}
