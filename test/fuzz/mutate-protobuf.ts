// Spoils the fields of a protobuf message: lost, doubled, moved, other numbers and texts, lengths that lie, nesting.
import type { Chance } from "./chance.ts";
import { LIMITS } from "./mutate-bytes.ts";
import { NAMES } from "./mutate-json.ts";

interface Field {
  id: bigint;
  wire: number;
  /** A varint, bytes of any kind, or what the bytes hold where they read as a message. */
  value: bigint | Uint8Array | Field[];
  /** The length that is written instead of the true one. */
  lie?: bigint;
}

const MAX_MESSAGE = 2 ** 16;

/** Reads a varint at `at`; null where it does not end. */
function readVarint(bytes: Uint8Array, at: number): [bigint, number] | null {
  let value = 0n;
  for (let i = 0; i < 10 && at + i < bytes.length; i++) {
    const byte = bytes[at + i] as number;
    value |= BigInt(byte & 127) << BigInt(7 * i);
    if (byte < 128) return [BigInt.asUintN(64, value), at + i + 1];
  }
  return null;
}

/** The fields of a message; null for bytes that are none. */
function parse(bytes: Uint8Array, depth = 0): Field[] | null {
  if (depth > 8 || (depth > 0 && bytes.length > MAX_MESSAGE)) return null;
  const fields: Field[] = [];
  for (let at = 0; at < bytes.length; ) {
    const key = readVarint(bytes, at);
    if (!key) return null;
    const [id, wire] = [key[0] >> 3n, Number(key[0] & 7n)];
    const number =
      wire === 0 || wire === 2 ? readVarint(bytes, key[1]) : ([{ 1: 8n, 5: 4n }[wire] ?? -1n, key[1]] as const);
    if (!number || number[0] < 0n || id === 0n) return null;
    if (wire === 0) {
      fields.push({ id, wire, value: number[0] });
      at = number[1];
      continue;
    }
    const end = number[1] + Number(number[0]);
    if (end > bytes.length) return null;
    const payload = bytes.subarray(number[1], end);
    const nested = wire === 2 && payload.length > 1 ? parse(payload, depth + 1) : null;
    fields.push({ id, wire, value: nested ?? payload });
    at = end;
  }
  return fields;
}

function writeVarint(value: bigint): number[] {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  for (; rest >= 128n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  return [...bytes, Number(rest)];
}

function encode(fields: readonly Field[]): Buffer {
  const parts: Uint8Array[] = [];
  for (const { id, wire, value, lie } of fields) {
    parts.push(Uint8Array.from(writeVarint((id << 3n) | BigInt(wire))));
    if (typeof value === "bigint") parts.push(Uint8Array.from(writeVarint(value)));
    else {
      const payload = Array.isArray(value) ? encode(value) : value;
      if (wire === 2) parts.push(Uint8Array.from(writeVarint(lie ?? BigInt(payload.length))));
      parts.push(payload);
    }
  }
  return Buffer.concat(parts);
}

function collect(fields: Field[], found: Field[][] = []): Field[][] {
  found.push(fields);
  for (const { value } of fields) if (Array.isArray(value)) collect(value, found);
  return found;
}

function changeValue(field: Field, chance: Chance): void {
  if (typeof field.value === "bigint") field.value = chance.once(2) ? chance.pick(LIMITS) : BigInt(chance.below(64));
  else if (chance.once(4)) field.lie = chance.pick(LIMITS);
  else if (chance.once(3)) field.value = Buffer.alloc(chance.pick([0, 1, 16, 4000]), chance.below(256));
  else
    field.value = Buffer.from(
      chance.pick([...NAMES, "model.onnx_data", "model.onnx", "location", "offset", "-1", "9".repeat(15)]),
    );
}

function change(fields: Field[], chance: Chance): void {
  const at = chance.below(Math.max(1, fields.length));
  const field = fields[at];
  if (!field) return void fields.push({ id: 1n, wire: 0, value: 1n });
  const changes = [
    () => fields.splice(at, 1),
    () => fields.splice(chance.below(fields.length), 0, structuredClone(field)),
    () => changeValue(field, chance),
    () => changeValue(field, chance),
    () => changeValue(field, chance),
    () => {
      field.id = BigInt(chance.pick([1, 2, 4, 5, 7, 8, 9, 13, 14, 20, 25, 536_870_911]));
    },
    () => {
      field.wire = chance.below(8);
    },
    () => {
      field.value = [structuredClone(field)];
      field.wire = 2;
    },
    () => fields.push(...structuredClone(fields.slice(0, 50))),
  ];
  chance.pick(changes)();
}

/** One to four changes of the fields of a message, at any depth. */
export function mutateProtobuf(bytes: Uint8Array, chance: Chance): Uint8Array {
  const root = parse(bytes);
  if (!root) throw new Error("a seed for the protobuf fuzzer is no message");
  for (let left = 1 + chance.below(4); left > 0; left--) change(chance.pick(collect(root)), chance);
  return encode(root);
}
