// The decoders of a tokenizer.json: lists of tokens to lists of texts, which are joined.
import { NfcError } from "../../errors.ts";
import { type FieldReader, quote } from "../fields.ts";
import { unmapBytes } from "./bytes.ts";
import { readParts } from "./definition.ts";
import { type Pattern, readPattern } from "./patterns.ts";

export interface Decoder {
  readonly decode: (tokens: readonly string[]) => readonly string[];
  readonly patterns: readonly Pattern[];
}

/** @throws NfcError "unsupported" for a kind that is not known, "invalid-file" */
export function makeDecoder(part: FieldReader): Decoder {
  const type = part.text("type") ?? "";
  if (type === "Sequence") {
    const parts = readParts(part, "decoders").map(makeDecoder);
    return {
      decode: (tokens) => parts.reduce((now, { decode }) => decode(now), tokens),
      patterns: parts.flatMap(({ patterns }) => patterns),
    };
  }
  if (type === "Replace") {
    const pattern = readPattern(part);
    const content = part.text("content") ?? "";
    const replace = (token: string) => token.replace(pattern.expression, () => content);
    return { decode: (tokens) => tokens.map(replace), patterns: [pattern] };
  }
  const decode = makeSimple(type, part);
  if (decode) return { decode, patterns: [] };
  throw new NfcError("unsupported", `${part.file}: the decoder ${quote(type)} is not supported`);
}

const UTF8 = new TextDecoder("utf-8", { ignoreBOM: true });

function makeSimple(type: string, part: FieldReader): Decoder["decode"] | null {
  switch (type) {
    case "ByteLevel":
      return (tokens) => [UTF8.decode(Buffer.concat(tokens.map(unmapBytes)))];
    case "WordPiece":
      return makeWordPiece(part.text("prefix") ?? "##", part.flag("cleanup") ?? true);
    case "Metaspace":
      return makeMetaspace(part);
    case "BPEDecoder": {
      const suffix = part.text("suffix") ?? "</w>";
      return (tokens) =>
        tokens.map((token, i) => token.replaceAll(suffix, suffix === "" || i === tokens.length - 1 ? "" : " "));
    }
    case "ByteFallback":
      return joinBytes;
    case "Fuse":
      return (tokens) => [tokens.join("")];
    case "Strip":
      return makeStrip(part);
    default:
      return null;
  }
}

function makeMetaspace(part: FieldReader): Decoder["decode"] {
  const mark = part.text("replacement") ?? "▁";
  const scheme = part.flag("add_prefix_space") === false ? "never" : part.text("prepend_scheme")?.toLowerCase();
  return (tokens) => tokens.map((token, i) => token.replaceAll(mark, i === 0 && scheme !== "never" ? "" : " "));
}

const CLEANED: readonly (readonly [string, string])[] = [
  ...[".", "?", "!", ","].map((mark) => [` ${mark}`, mark] as const),
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [" do not", " don't"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
];

function makeWordPiece(prefix: string, cleanup: boolean): Decoder["decode"] {
  const clean = (text: string) => CLEANED.reduce((now, [from, to]) => now.replaceAll(from, to), text);
  return (tokens) =>
    tokens.map((token, i) => {
      const spaced = token.startsWith(prefix) ? token.slice(prefix.length) : ` ${token}`;
      const text = i === 0 ? token : spaced;
      return cleanup ? clean(text) : text;
    });
}

/** Runs of <0x00> to <0xFF> as text; one replacement character for each byte where they are no text. */
function joinBytes(tokens: readonly string[]): string[] {
  const texts: string[] = [];
  let bytes: number[] = [];
  const flush = () => {
    if (bytes.length === 0) return;
    const text = UTF8.decode(Uint8Array.from(bytes));
    texts.push(Buffer.from(text, "utf8").equals(Buffer.from(bytes)) ? text : "\ufffd".repeat(bytes.length));
    bytes = [];
  };
  for (const token of tokens) {
    const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(token)?.[1];
    if (byte !== undefined) bytes.push(Number.parseInt(byte, 16));
    else {
      flush();
      texts.push(token);
    }
  }
  flush();
  return texts;
}

function makeStrip(part: FieldReader): Decoder["decode"] {
  const content = part.text("content") ?? " ";
  const range = { min: 0, max: 2 ** 20 };
  const [start, stop] = [part.integer("start", range) ?? 0, part.integer("stop", range) ?? 0];
  return (tokens) =>
    tokens.map((token) => {
      const characters = Array.from(token);
      let [from, to] = [0, characters.length];
      while (from < Math.min(start, to) && characters[from] === content) from++;
      while (to > from && characters.length - to < stop && characters[to - 1] === content) to--;
      return characters.slice(from, to).join("");
    });
}
