// Makes the n-th input of a target: one of its valid inputs, spoiled in the way that its format suggests, or as bytes.
import { gunzipSync, gzipSync } from "node:zlib";
import { Chance } from "./chance.ts";
import { mutateBytes } from "./mutate-bytes.ts";
import { mutateJson } from "./mutate-json.ts";
import { mutateProtobuf } from "./mutate-protobuf.ts";

export type Format = "bytes" | "json" | "protobuf" | "safetensors" | "lines" | "gzip";

export interface Seeds {
  /** The target's name. */
  name: string;
  format: Format;
  /** Valid inputs. */
  valid: readonly Uint8Array[];
}

const LENGTH_BYTES = 8;

/** Changes the header as JSON and writes its length anew, so that what stands in it is looked at. */
function mutateSafetensors(bytes: Uint8Array, chance: Chance): Uint8Array {
  const length = Number(Buffer.from(bytes).readBigUInt64LE(0));
  const header = Buffer.from(bytes.subarray(LENGTH_BYTES, LENGTH_BYTES + length)).toString();
  const json = Buffer.from(mutateJson(header, chance));
  const prefix = Buffer.alloc(LENGTH_BYTES);
  prefix.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([prefix, json, bytes.subarray(LENGTH_BYTES + length)]);
}

/** Whether a line is a whole object of JSON; of one over several lines each is only text. */
function isRecord(line: string): boolean {
  try {
    return line.startsWith("{") && typeof JSON.parse(line) === "object";
  } catch {
    return false;
  }
}

/** Changes one line of many: of JSON as JSON, of others as bytes. */
function mutateLines(bytes: Uint8Array, chance: Chance): Uint8Array {
  const lines = Buffer.from(bytes).toString().split("\n");
  const at = chance.below(lines.length);
  const line = lines[at] as string;
  lines[at] = isRecord(line)
    ? mutateJson(line, chance)
    : Buffer.from(mutateBytes(Buffer.from(line), chance)).toString("latin1");
  if (chance.once(8)) lines.splice(chance.below(lines.length), 0, chance.pick(lines));
  return Buffer.from(lines.join(chance.pick(["\n", "\n", "\n", "\r\n", "\r", ""])));
}

/** Changes what is packed, half of the time as text, and packs it again. */
function mutateGzip(bytes: Uint8Array, chance: Chance): Uint8Array {
  const content = gunzipSync(bytes);
  return gzipSync(chance.once(2) ? mutateBytes(content, chance) : mutateLines(content, chance), { level: 1 });
}

const MUTATIONS: Readonly<Record<Format, (bytes: Uint8Array, chance: Chance) => Uint8Array>> = {
  bytes: mutateBytes,
  json: (bytes, chance) => Buffer.from(mutateJson(Buffer.from(bytes).toString(), chance)),
  protobuf: mutateProtobuf,
  safetensors: mutateSafetensors,
  lines: mutateLines,
  gzip: mutateGzip,
};

/** The input of that number: the same for the same seed, name and valid inputs. */
export function makeInput({ name, format, valid }: Seeds, seed: number, index: number): Uint8Array {
  const chance = new Chance(seed, name, index);
  const start = chance.pick(valid);
  const structured = chance.once(4) ? start : MUTATIONS[format](start, chance);
  // Every fourth input is spoiled as bytes alone, every twelfth in both ways.
  return structured === start || chance.once(9) ? mutateBytes(structured, chance, chance.pick(valid)) : structured;
}
