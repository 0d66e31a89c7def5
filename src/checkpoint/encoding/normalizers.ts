// The normalizers of a tokenizer.json: functions from text to text, as Hugging Face's library has them.
import { NfcError } from "../../errors.ts";
import { type FieldReader, quote } from "../fields.ts";
import { mapBytes } from "./bytes.ts";
import { readParts } from "./definition.ts";
import { type Pattern, readPattern } from "./patterns.ts";
import { makePrecompiled } from "./precompiled.ts";

/** @param continued whether `text` goes on with a section whose start has been normalized before */
type Normalize = (text: string, continued: boolean) => string;

export interface Normalizer {
  readonly normalize: Normalize;
  readonly patterns: readonly Pattern[];
  /** Whether a cut between a letter or digit and white space leaves both sides as they are. */
  readonly keepsCut: boolean;
}

const FORMS = ["NFC", "NFD", "NFKC", "NFKD"];

/** @throws NfcError "unsupported" for a kind that is not known, "invalid-file" */
export function makeNormalizer(part: FieldReader): Normalizer {
  const type = part.text("type") ?? "";
  if (type === "Sequence") return chain(readParts(part, "normalizers").map(makeNormalizer));
  if (type === "Replace") return makeReplace(part);
  const normalize = FORMS.includes(type) ? (text: string) => text.normalize(type) : makeSimple(type, part);
  if (normalize === null)
    throw new NfcError("unsupported", `${part.file}: the normalizer ${quote(type)} is not supported`);
  return { normalize, patterns: [], keepsCut: type !== "ByteLevel" };
}

function chain(parts: readonly Normalizer[]): Normalizer {
  return {
    normalize: (text, continued) => parts.reduce((now, { normalize }) => normalize(now, continued), text),
    patterns: parts.flatMap(({ patterns }) => patterns),
    keepsCut: parts.every(({ keepsCut }) => keepsCut),
  };
}

function makeReplace(part: FieldReader): Normalizer {
  const pattern = readPattern(part);
  const content = part.text("content") ?? "";
  const text = pattern.text ?? " ";
  // What is replaced is no letter or digit, reaches over no cut, and does not vanish.
  const isApart = !/[\p{L}\p{N}]|[^\s▁][\s▁]/u.test(text) && content !== "" && !/^[\p{L}\p{N}]/u.test(content);
  return {
    normalize: (now) => now.replace(pattern.expression, () => content),
    patterns: [pattern],
    keepsCut: pattern.known && isApart,
  };
}

function makeSimple(type: string, part: FieldReader): Normalize | null {
  switch (type) {
    case "Lowercase":
      return lowercase;
    case "StripAccents":
      return (text) => text.replace(/\p{M}/gu, "");
    case "Strip":
      return makeStrip(part.flag("strip_left") ?? true, part.flag("strip_right") ?? true);
    case "Prepend": {
      const prepend = part.text("prepend") ?? "";
      return (text, continued) => (text === "" || continued ? text : prepend + text);
    }
    case "Nmt":
      return replaceControls;
    case "BertNormalizer":
      return makeBert(part);
    case "ByteLevel":
      return mapBytes;
    case "Precompiled":
      return makePrecompiled(part.text("precompiled_charsmap") ?? "", part.file);
    default:
      return null;
  }
}

/** Character by character: a sigma at a word's end is like any other. */
function lowercase(text: string): string {
  return text.replaceAll("Σ", "σ").toLowerCase();
}

function makeStrip(left: boolean, right: boolean): Normalize {
  return (text, continued) => {
    const started = left && !continued ? text.replace(/^\p{White_Space}+/u, "") : text;
    if (!right) return started;
    let end = started.length;
    while (end > 0 && /\p{White_Space}/u.test(started[end - 1] as string)) end--;
    return started.slice(0, end);
  };
}

const NMT_REMOVED = /(?![\0\t\n\f\r\u0080-\u008E\u0090-\u009E])\p{Cc}/gu;
const NMT_SPACES = /[\t\n\f\r\u1680\u200B-\u200F\u2028\u2029\u2581\uFEFF\uFFFD]/g;

function replaceControls(text: string): string {
  return text.replace(NMT_REMOVED, "").replace(NMT_SPACES, " ");
}

const CHINESE =
  /[\u4E00-\u9FFF\u3400-\u4DBF\u{20000}-\u{2A6DF}\u{2A700}-\u{2B73F}\u{2B740}-\u{2B81F}\u{2B920}-\u{2CEAF}\uF900-\uFAFF\u{2F800}-\u{2FA1F}]/gu;

function makeBert(part: FieldReader): Normalize {
  const lower = part.flag("lowercase") ?? true;
  const strip = part.flag("strip_accents") ?? lower;
  const clean = part.flag("clean_text") ?? true;
  const chinese = part.flag("handle_chinese_chars") ?? true;
  return (text) => {
    let now = text;
    if (clean) now = now.replace(/[\0\uFFFD]|(?![\t\n\r])[\p{Cc}\p{Cf}\p{Co}]/gu, "").replace(/\p{White_Space}/gu, " ");
    if (chinese) now = now.replace(CHINESE, " $& ");
    if (strip) now = now.normalize("NFD").replace(/\p{Mn}/gu, "");
    return lower ? lowercase(now) : now;
  };
}
