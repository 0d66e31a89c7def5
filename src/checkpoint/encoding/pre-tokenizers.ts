// The pre-tokenizers of a tokenizer.json: functions that cut a section of text into words.
import { NfcError } from "../../errors.ts";
import { type FieldReader, quote } from "../fields.ts";
import { mapBytes } from "./bytes.ts";
import { readParts } from "./definition.ts";
import { GPT2_WORDS, makeTextPattern, type Pattern, readPattern } from "./patterns.ts";

/** @param first whether the section begins where the text does */
type PreTokenize = (words: readonly string[], first: boolean) => string[];

export interface PreTokenizer {
  readonly split: PreTokenize;
  readonly patterns: readonly Pattern[];
  /** A cut between a letter or digit and white space leaves both sides as they are. */
  readonly keepsCut: boolean;
  /** A word always ends at such a cut: before a space, and before other white space. */
  readonly endsWord: { readonly space: boolean; readonly line: boolean };
  /** Both hold for a cut after any other character, too. */
  readonly cutsAfterMarks: boolean;
  /** Words also end between letters, digits and marks, as GPT-2's do. */
  readonly endsAtBorders: boolean;
  /** The right side of a cut is seen as the start of a section unless it begins with a space. */
  readonly marksStart: boolean;
  /** What is still to be done to each word: its bytes as characters. It is left out where a word's ids are known. */
  readonly finish?: ((word: string) => string) | undefined;
  /** Where `split` finds GPT-2's words and does no more: what it makes of a section before. */
  readonly beginGpt2Words?: ((text: string) => string) | undefined;
}

const PLAIN = {
  patterns: [],
  keepsCut: true,
  endsWord: { space: true, line: true },
  cutsAfterMarks: true,
  endsAtBorders: false,
  marksStart: false,
};
const NO_END = { space: false, line: false };

/** @throws NfcError "unsupported" for a kind that is not known, "invalid-file" */
export function makePreTokenizer(part: FieldReader): PreTokenizer {
  const type = part.text("type") ?? "";
  switch (type) {
    case "Sequence":
      return chain(readParts(part, "pretokenizers").map(makePreTokenizer));
    case "ByteLevel":
      return makeByteLevel(part);
    case "Metaspace":
      return makeMetaspace(part);
    case "Split":
      return makeSplit(part);
    case "WhitespaceSplit":
      return { ...PLAIN, split: splitBy(/\P{White_Space}+/gu, keepMatches) };
    case "Whitespace":
      return { ...PLAIN, split: splitBy(WHITESPACE_WORDS, keepMatches) };
    case "BertPreTokenizer":
      return { ...PLAIN, split: splitBy(BERT_WORDS, keepMatches) };
    case "Punctuation": {
      const split = splitBy(PUNCTUATION, BEHAVIORS[readBehavior(part)]);
      return { ...PLAIN, endsWord: NO_END, cutsAfterMarks: false, split };
    }
    case "Digits": {
      const digits = part.flag("individual_digits") ? /\p{N}/gu : /\p{N}+/gu;
      return { ...PLAIN, endsWord: NO_END, split: splitBy(digits, keepAll) };
    }
    case "CharDelimiterSplit":
      return makeTextSplit(makeTextPattern(part.text("delimiter") ?? " ", part.file), "removed");
    default:
      throw new NfcError("unsupported", `${part.file}: the pre-tokenizer ${quote(type)} is not supported`);
  }
}

const WHITESPACE_WORDS =
  /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]+|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}\p{White_Space}]+/gu;
const PUNCTUATION = /[\p{P}!-/:-@[-`{-~]/gu;
const BERT_WORDS = /[\p{P}!-/:-@[-`{-~]|[^\p{White_Space}\p{P}!-/:-@[-`{-~]+/gu;

function chain(parts: readonly PreTokenizer[]): PreTokenizer {
  const last = parts.at(-1);
  const finishLater = (part: PreTokenizer) => part === last || part.finish === undefined;
  const ends = (kind: "space" | "line") => parts.some(({ endsWord }) => endsWord[kind]);
  return {
    split: (words, first) => {
      let now = [...words];
      for (const part of parts) {
        // Where the start was cut off, the first word is not the text's first.
        now = part.split(now, first && words[0]?.startsWith(now[0] ?? "") === true);
        if (!finishLater(part)) now = now.map((word) => (part.finish as (word: string) => string)(word));
      }
      return now;
    },
    patterns: parts.flatMap(({ patterns }) => patterns),
    // What comes after a mapping to bytes sees other characters.
    keepsCut: parts.every((part) => part.keepsCut && finishLater(part)),
    endsWord: { space: ends("space"), line: ends("line") },
    cutsAfterMarks: parts.every(({ cutsAfterMarks }) => cutsAfterMarks),
    endsAtBorders: false,
    marksStart: parts.some(({ marksStart }) => marksStart),
    finish: last?.finish,
  };
}

/** Parts of a word in their order: what a pattern has found, and what lies between. */
interface Piece {
  readonly text: string;
  readonly found: boolean;
}

type Behavior = (pieces: readonly Piece[]) => string[];

const keepAll: Behavior = (pieces) => pieces.map(({ text }) => text);
const keepMatches: Behavior = (pieces) => pieces.filter(({ found }) => found).map(({ text }) => text);
const dropMatches: Behavior = (pieces) => pieces.filter(({ found }) => !found).map(({ text }) => text);

/** Joins a piece that was found to its neighbor: that before, or that after where the pieces come from the right. */
function joinTo(pieces: readonly Piece[], join: (neighbor: string, text: string) => string): string[] {
  const words: string[] = [];
  let previous = false;
  for (const { text, found } of pieces) {
    const neighbor = found && !previous ? words.pop() : undefined;
    words.push(neighbor === undefined ? text : join(neighbor, text));
    previous = found;
  }
  return words;
}

type BehaviorName = "isolated" | "removed" | "mergedwithprevious" | "mergedwithnext" | "contiguous";

const BEHAVIORS: Readonly<Record<BehaviorName, Behavior>> = {
  isolated: keepAll,
  removed: dropMatches,
  mergedwithprevious: (pieces) => joinTo(pieces, (neighbor, text) => neighbor + text),
  mergedwithnext: (pieces) => joinTo([...pieces].reverse(), (neighbor, text) => text + neighbor).reverse(),
  contiguous: (pieces) => {
    const words: string[] = [];
    for (const [i, { text, found }] of pieces.entries())
      words.push(i > 0 && pieces[i - 1]?.found === found ? words.pop() + text : text);
    return words;
  },
};

function readBehavior(part: FieldReader): BehaviorName {
  const name = (part.text("behavior") ?? "Isolated").toLowerCase();
  if (Object.hasOwn(BEHAVIORS, name)) return name as BehaviorName;
  throw part.wrong("behavior", "Isolated, Removed, MergedWithPrevious, MergedWithNext or Contiguous");
}

function splitBy(expression: RegExp, behavior: Behavior): PreTokenize {
  const splitWord = behavior === keepMatches ? (word: string) => word.match(expression) ?? [] : null;
  return (words) =>
    words.flatMap((word) =>
      (splitWord ? splitWord(word) : behavior(cutPieces(word, expression))).filter((piece) => piece !== ""),
    );
}

function cutPieces(word: string, expression: RegExp): Piece[] {
  const pieces: Piece[] = [];
  let done = 0;
  for (const match of word.matchAll(expression)) {
    if (match.index > done) pieces.push({ text: word.slice(done, match.index), found: false });
    pieces.push({ text: match[0], found: true });
    done = match.index + match[0].length;
  }
  if (done < word.length) pieces.push({ text: word.slice(done), found: false });
  return pieces;
}

function makeByteLevel(part: FieldReader): PreTokenizer {
  const prefix = part.flag("add_prefix_space") ?? true;
  const useRegex = part.flag("use_regex") ?? true;
  const begin = (text: string) => (prefix && !text.startsWith(" ") ? ` ${text}` : text);
  const start = (words: readonly string[]) => (prefix ? words.map(begin) : words);
  const split = splitBy(GPT2_WORDS, keepMatches);
  return {
    ...PLAIN,
    split: (words, first) => (useRegex ? split(start(words), first) : [...start(words)]),
    endsWord: useRegex ? PLAIN.endsWord : NO_END,
    endsAtBorders: useRegex && !prefix,
    marksStart: prefix,
    finish: mapBytes,
    beginGpt2Words: useRegex ? begin : undefined,
  };
}

function makeMetaspace(part: FieldReader): PreTokenizer {
  const mark = part.text("replacement") ?? "▁";
  const declared = part.text("prepend_scheme")?.toLowerCase();
  const scheme = part.flag("add_prefix_space") === false ? "never" : (declared ?? "always");
  const splits = part.flag("split") ?? true;
  const { expression } = makeTextPattern(mark, part.file);
  const split = splitBy(expression, BEHAVIORS.mergedwithnext);
  const start = (word: string, first: boolean) => {
    const marked = word.replaceAll(" ", mark);
    const prepend = scheme === "always" || (scheme === "first" && first);
    return prepend && !marked.startsWith(mark) ? mark + marked : marked;
  };
  return {
    ...PLAIN,
    split: (words, first) => {
      const marked = words.map((word, i) => start(word, first && i === 0));
      return splits ? split(marked, first) : marked;
    },
    endsWord: { space: splits, line: false },
    marksStart: scheme !== "never",
  };
}

function makeSplit(part: FieldReader): PreTokenizer {
  const pattern = readPattern(part);
  const name = readBehavior(part);
  const behavior = BEHAVIORS[name];
  const inverted: Behavior = (pieces) => behavior(pieces.map(({ text, found }) => ({ text, found: !found })));
  const invert = part.flag("invert") ?? false;
  const chosen = invert ? inverted : behavior;
  if (pattern.text !== undefined && !invert) return makeTextSplit(pattern, name);
  const keepsCut = pattern.known && pattern.text === undefined && (name === "isolated" || name === "removed");
  const ends = keepsCut && pattern.endsWord;
  return {
    patterns: [pattern],
    split: splitBy(pattern.expression, chosen),
    keepsCut,
    endsWord: { space: ends, line: ends },
    cutsAfterMarks: false,
    endsAtBorders: false,
    marksStart: false,
  };
}

/** A split at a text. What is found does not reach over a cut where it is one character and is not joined over it. */
function makeTextSplit(pattern: Pattern, name: BehaviorName): PreTokenizer {
  const { text = "" } = pattern;
  const joins = name === "mergedwithprevious" || name === "mergedwithnext";
  const apart = !joins || !/[\p{L}\p{N}\p{White_Space}]/u.test(text);
  const atSpace = text === " " && name !== "mergedwithprevious";
  return {
    split: splitBy(pattern.expression, BEHAVIORS[name]),
    patterns: [pattern],
    keepsCut: text.length === 1 && (apart || atSpace),
    endsWord: { space: atSpace, line: false },
    cutsAfterMarks: false,
    endsAtBorders: false,
    marksStart: false,
  };
}
