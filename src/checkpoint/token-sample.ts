// Takes windows of token ids from all over a text, so that a long text is not known by its beginning alone.
import { streamIds } from "../formats/ids/stream.ts";
import { detectCommonKind } from "../io/data-file.ts";
import { readTextPieces, type TextOptions } from "../io/text.ts";
import { openTokenStream, type TokenModel } from "./token-stream.ts";
import { loadTokenizer } from "./tokenizer.ts";
import { takeWindows } from "./tokens.ts";

/** Characters, or ids, of the files that are looked at: the sample of a longer corpus is one of its beginning. */
const MAX_SIZE = 2 ** 28;
/** A text of fewer characters for each token asked for is taken from its beginning on, without gaps. */
const LEAST_SPREAD = 8;
/** Characters that are encoded at once for each token of a window; English text has about four. */
const STEP = 6;
/** A window begins at the white space that is at most so many characters ahead; else in the middle of a word, if need be. */
const NEAR = 256;

export interface SampleOptions extends TextOptions {
  /** Ids of a window. */
  length: number;
  /** Ids of all windows together. */
  count: number;
}

/** A text as pieces that can be cut anywhere, and their ids. */
interface Source<Piece extends string | number[]> {
  open(): AsyncIterable<Piece>;
  /** Puts `next` behind what was gathered. */
  join(gathered: Piece | null, next: Piece): Piece;
  encode(piece: Piece): number[];
  /** The next place at which a window may begin. */
  findStart(piece: Piece, at: number): number;
}

/**
 * ⌈count / length⌉ windows, in the order of the text, that begin at even distances from each other; fewer of a shorter
 * text. The text is read twice, and only the windows are encoded.
 * @throws NfcError as `openTokenStream`; "invalid-file" for a text of under two tokens
 */
export async function sampleWindows(
  paths: readonly string[],
  model: TokenModel,
  { length, count, ...options }: SampleOptions,
): Promise<Int32Array[]> {
  const ids = (await detectCommonKind(paths)) === "ids";
  const size = ids ? await measure(streamAll(paths, model, options)) : await measure(readTextPieces(paths, options));
  const readOn = async () => {
    const stream = await openTokenStream(paths, model, options);
    return takeWindows(stream(), { length, count, name: paths[0] ?? "" });
  };
  if (size < (ids ? count : LEAST_SPREAD * count)) return readOn();
  const wanted = Math.ceil(count / length);
  const spread = { length, wanted, size };
  if (ids)
    return gatherWindows(
      makeIdSource(() => streamAll(paths, model, options)),
      spread,
    );
  const tokenizer = await loadTokenizer(model.folder, model.config);
  const windows = await gatherWindows(
    makeTextSource(() => readTextPieces(paths, options), tokenizer),
    spread,
  );
  // Between windows that follow closely, what is left of the last characters is not used.
  return windows.length === wanted ? windows : readOn();
}

async function measure(pieces: AsyncIterable<{ length: number }>): Promise<number> {
  let size = 0;
  for await (const piece of pieces) {
    size += piece.length;
    if (size >= MAX_SIZE) return MAX_SIZE;
  }
  return size;
}

/** @param spread `size`: characters or ids of the text */
async function gatherWindows<Piece extends string | number[]>(
  source: Source<Piece>,
  { length, wanted, size }: { length: number; wanted: number; size: number },
): Promise<Int32Array[]> {
  const windows: Int32Array[] = [];
  let gathered: Piece | null = null;
  let before = 0; // size of the pieces before this one
  for await (const piece of source.open()) {
    let at = 0;
    while (at < piece.length && windows.length < wanted) {
      const start = Math.floor((windows.length * size) / wanted) - before;
      if (gathered === null && at < start) at = Math.min(piece.length, source.findStart(piece, start));
      if (at >= piece.length) break;
      gathered = source.join(gathered, piece.slice(at, at + STEP * length) as Piece);
      at += STEP * length;
      const ids = source.encode(gathered);
      if (ids.length <= length) continue; // the last id may belong to a word that goes on
      windows.push(Int32Array.from(ids.slice(0, length)));
      gathered = null;
    }
    if (windows.length === wanted) break;
    before += piece.length;
  }
  return windows;
}

function makeTextSource(
  open: () => AsyncIterable<string>,
  { encode }: { encode(text: string): number[] },
): Source<string> {
  return {
    open,
    encode,
    join: (gathered, next) => (gathered ?? "") + next,
    findStart: (piece, at) => {
      const space = piece.slice(at, at + NEAR).search(/\s/);
      if (space >= 0) return at + space;
      return isLowSurrogate(piece, at) ? at + 1 : at;
    },
  };
}

/** Whether a pair of UTF-16 units would be cut there. */
function isLowSurrogate(text: string, at: number): boolean {
  const unit = text.charCodeAt(at);
  return unit >= 0xdc00 && unit <= 0xdfff;
}

function makeIdSource(open: () => AsyncIterable<number[]>): Source<number[]> {
  return {
    open,
    encode: (ids) => ids,
    join: (gathered, next) => (gathered ? [...gathered, ...next] : next),
    findStart: (_, at) => at,
  };
}

async function* streamAll(
  paths: readonly string[],
  { config }: TokenModel,
  options: TextOptions,
): AsyncGenerator<number[]> {
  for (const path of paths) yield* streamIds(path, config.vocab_size, options);
}
