// SentencePiece's table of character replacements (a double-array trie in base64), and the text that it makes.
import { NfcError } from "../../errors.ts";

/** Bytes of the longest cluster of characters that is looked up whole. */
const MAX_CLUSTER_BYTES = 5;

/** @throws NfcError "invalid-file" for a table that does not hold together */
export function makePrecompiled(base64: string, file: string): (text: string) => string {
  const bytes = Buffer.from(base64, "base64");
  const trieBytes = bytes.length >= 4 ? bytes.readUInt32LE(0) : -1;
  if (trieBytes < 4 || trieBytes % 4 !== 0 || 4 + trieBytes > bytes.length)
    throw new NfcError("invalid-file", `${file}: precompiled_charsmap is no table of replacements`, {
      hint: "save the tokenizer again with Hugging Face's library",
    });
  const units = new Uint32Array(trieBytes / 4);
  for (let i = 0; i < units.length; i++) units[i] = bytes.readUInt32LE(4 + 4 * i);
  const table = { units, texts: bytes.subarray(4 + trieBytes) };
  const segmenter = new Intl.Segmenter("en", { granularity: "grapheme" });
  const known = new Map<string, string>();
  const replace = (cluster: string): string => {
    const done = known.get(cluster);
    if (done !== undefined) return done;
    const made = replaceCluster(table, cluster);
    if (known.size < 2 ** 16) known.set(cluster, made);
    return made;
  };
  return (text) => Array.from(segmenter.segment(text), ({ segment }) => replace(segment)).join("");
}

interface Table {
  units: Uint32Array;
  /** Replacements, each ended by a zero byte. */
  texts: Uint8Array;
}

function replaceCluster(table: Table, cluster: string): string {
  const whole = Buffer.byteLength(cluster) <= MAX_CLUSTER_BYTES ? lookUp(table, cluster) : null;
  return whole ?? Array.from(cluster, (character) => lookUp(table, character) ?? character).join("");
}

/** The replacement of the shortest start of `text` that the table has; null for none. */
function lookUp({ units, texts }: Table, text: string): string | null {
  let unit = units[0] as number;
  let at = readOffset(unit);
  for (const byte of Buffer.from(text, "utf8")) {
    if (byte === 0) return null;
    at ^= byte;
    unit = units[at] ?? 0;
    if ((unit & 0x800000ff) >>> 0 !== byte) return null;
    at ^= readOffset(unit);
    if ((unit & 0x100) === 0) continue;
    const start = (units[at] ?? 0) & 0x7fffffff;
    const end = texts.indexOf(0, start);
    return Buffer.from(texts.subarray(start, end < 0 ? texts.length : end)).toString("utf8");
  }
  return null;
}

/** How far a unit of the trie is from its children. */
const readOffset = (unit: number) => (unit >>> 10) << ((unit & 0x200) >>> 6);
