// Makes assets/gpt2-merges.txt, the merges of GPT-2's vocabulary in the form of its merges.txt, from the ranks of
// gpt-tokenizer (MIT): node scripts/make-gpt2-merges.mjs
import { writeFile } from "node:fs/promises";
import { URL } from "node:url";
import ranks from "gpt-tokenizer/bpeRanks/r50k_base";

const PRINTABLE = [
  [33, 126],
  [161, 172],
  [174, 255],
];
const isPrintable = (byte) => PRINTABLE.some(([from, to]) => byte >= from && byte <= to);
let next = 256;
/** GPT-2's character for each byte: printable bytes stand for themselves, the others follow from U+0100 on. */
const characters = Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(isPrintable(byte) ? byte : next++));

const tokens = ranks.map((token) => Array.from(Buffer.from(token), (byte) => characters[byte]));
const rankOf = new Map(tokens.map((letters, rank) => [letters.join(""), rank]));

/** The two parts that merge last: the token's letters, merged by all ranks below its own. */
function splitToken(letters, rank) {
  let parts = letters;
  while (parts.length > 2) {
    const pairs = parts.slice(1).map((part, i) => rankOf.get(parts[i] + part) ?? Number.POSITIVE_INFINITY);
    const lowest = Math.min(...pairs);
    if (lowest >= rank) throw new Error(`${letters.join("")} is not made of two earlier tokens`);
    const at = pairs.indexOf(lowest);
    parts = [...parts.slice(0, at), parts[at] + parts[at + 1], ...parts.slice(at + 2)];
  }
  return parts;
}

const merges = tokens.flatMap((letters, rank) => (rank < 256 ? [] : [splitToken(letters, rank).join(" ")]));
await writeFile(new URL("../assets/gpt2-merges.txt", import.meta.url), `#version: 0.2\n${merges.join("\n")}\n`);
