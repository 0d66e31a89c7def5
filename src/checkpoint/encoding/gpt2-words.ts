// Finds where GPT-2's words end, by a table of the kinds of characters in place of the regular expression.
import { WordCache } from "./word-cache.ts";

const UNKNOWN = 0;
const LETTER = 1;
const NUMBER = 2;
const SPACE = 3;
const MARK = 4;
const SURROGATE = 5;

/** The kind of each UTF-16 unit, found when it is met first. */
const kinds = new Uint8Array(2 ** 16);
kinds.fill(SURROGATE, 0xd800, 0xe000);
/** The kinds of characters beyond U+FFFF. */
const pairKinds = new Uint8Array(0x110000 - 2 ** 16);

function classify(character: string): number {
  if (/^\p{L}/u.test(character)) return LETTER;
  if (/^\p{N}/u.test(character)) return NUMBER;
  return /^\p{White_Space}/u.test(character) ? SPACE : MARK;
}

/** The kind of the character that the unit at `at` belongs to. */
function kindAt(units: Uint16Array, at: number): number {
  const unit = units[at] as number;
  const kind = kinds[unit] as number;
  if (kind === SURROGATE) return kindOfPair(units, unit < 0xdc00 ? at : at - 1);
  if (kind !== UNKNOWN) return kind;
  const found = classify(String.fromCharCode(unit));
  kinds[unit] = found;
  return found;
}

function kindOfPair(units: Uint16Array, high: number): number {
  const code = (((units[high] as number) - 0xd800) << 10) + (units[high + 1] as number) - 0xdc00;
  const kind = pairKinds[code] as number;
  if (kind !== UNKNOWN) return kind;
  const found = classify(String.fromCodePoint(code + 2 ** 16));
  pairKinds[code] = found;
  return found;
}

const codeOf = (character: string) => character.charCodeAt(0);
const APOSTROPHE = codeOf("'");
const BLANK = codeOf(" ");
/** What follows the apostrophe of a contraction. */
const SHORT_ENDS = new Set(["s", "d", "m", "t"].map(codeOf));
const LONG_ENDS = new Set(["ll", "ve", "re"].map((end) => (codeOf(end) << 16) + end.charCodeAt(1)));

/**
 * The end of the word that begins at `start`: where `GPT2_WORDS` would end its match.
 * @param units UTF-16 without lone surrogates
 * @param length units of the text, more than `start`
 */
export function findWordEnd(units: Uint16Array, start: number, length: number): number {
  const first = units[start] as number;
  if (first === APOSTROPHE) {
    const next = start + 1 < length ? (units[start + 1] as number) : 0;
    if (SHORT_ENDS.has(next)) return start + 2;
    if (start + 2 < length && LONG_ENDS.has((next << 16) + (units[start + 2] as number))) return start + 3;
  }
  let at = start;
  if (first === BLANK && start + 1 < length && kindAt(units, start + 1) !== SPACE) at++;
  const kind = kindAt(units, at);
  do at++;
  while (at < length && kindAt(units, at) === kind);
  // White space leaves its last character to the word that follows.
  return kind === SPACE && at < length && at - start > 1 ? at - 1 : at;
}

/** Encodes texts word by word; the ids of words that came before are taken from a table. */
export class Gpt2WordEncoder {
  private readonly encodeWord: (word: string) => readonly number[];
  private readonly cache = new WordCache();
  /** The text, one UTF-16 unit a place. */
  private units = new Uint16Array(0);

  /** @param encodeWord the ids of a word */
  constructor(encodeWord: (word: string) => readonly number[]) {
    this.encodeWord = encodeWord;
  }

  /** Puts the ids of a text without lone surrogates behind `ids`. */
  encode(text: string, ids: number[]): void {
    const { length } = text;
    if (this.units.length < length) this.units = new Uint16Array(length);
    const { units, cache } = this;
    Buffer.from(units.buffer).write(text, "utf16le");
    let end: number;
    for (let start = 0; start < length; start = end) {
      end = findWordEnd(units, start, length);
      if (cache.append(units, start, end, ids)) continue;
      const word = this.encodeWord(text.slice(start, end));
      for (const id of word) ids.push(id);
      cache.keep(units, start, end, word);
    }
  }
}
