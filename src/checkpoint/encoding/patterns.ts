// The regular expressions of a tokenizer file: translated from Oniguruma's form, and known by whether they can be slow.
import { Tokenizer } from "@huggingface/tokenizers";
import { describeError, NfcError } from "../../errors.ts";
import { type FieldReader, isJsonObject, quote } from "../fields.ts";

/** A pattern of a split or a replacement. */
export interface Pattern {
  /** With the flags g and u. */
  readonly expression: RegExp;
  /** The text that it stands for, where it is no regular expression. */
  readonly text?: string | undefined;
  /** Known to take time in proportion to the text, and to find nothing that goes from a letter or digit to white space. */
  readonly known: boolean;
  /** It always ends a word before white space. */
  readonly endsWord: boolean;
}

const GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const CASED = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const REST = " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
/** Patterns of GPT-2, GPT-4, Llama 3 and Qwen 2, and of white space, at which a word ends. */
const WORDS = new Set([
  GPT2,
  "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
  `${CASED}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|${REST}`,
  `${CASED}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|${REST}`,
  "\\s+",
]);
/** Runs of spaces. */
const SPACES = new Set([" {2,}", " +"]);

/** GPT-2's words; \p{White_Space} is what \s means to Hugging Face's library. */
export const GPT2_WORDS =
  /'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/** Reads the "pattern" of a split or a replacement. @throws NfcError "invalid-file" */
export function readPattern(part: FieldReader): Pattern {
  const pattern = part.value("pattern");
  const { String: text, Regex: source } = isJsonObject(pattern) ? pattern : {};
  if (typeof text === "string") return makeTextPattern(text, part.file);
  if (typeof source !== "string") throw part.wrong("pattern", '{"String": …} or {"Regex": …}');
  return {
    expression: translate(source, part.file),
    known: WORDS.has(source) || SPACES.has(source),
    endsWord: WORDS.has(source),
  };
}

/** The pattern that finds a text. @throws NfcError "unsupported" for a text that is too long */
export function makeTextPattern(text: string, file: string): Pattern {
  const escaped = text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
  const expression = compile(() => new RegExp(text === "" ? "(?!)" : escaped, "gu"), text, file);
  return { expression, text, known: true, endsWord: false };
}

/** The engine compiles an expression when it is used first, and only then says that it is too large. */
function compile(make: () => RegExp, source: string, file: string): RegExp {
  try {
    const expression = make();
    expression.exec("");
    expression.lastIndex = 0;
    return expression;
  } catch (cause) {
    // The engine's message repeats the whole expression before its last words.
    const reason = describeError(cause).split(": ").at(-1);
    throw new NfcError("unsupported", `${file}: the pattern ${quote(source)}: ${reason}`, { cause });
  }
}

/** A tokenizer without tokens: the library translates the pattern of its pre-tokenizer. */
const EMPTY = {
  model: { type: "BPE", vocab: {}, merges: [] },
  ...{ added_tokens: [], normalizer: null, post_processor: null, decoder: null },
};

function translate(source: string, file: string): RegExp {
  return compile(
    () => {
      const pre_tokenizer = { type: "Split", pattern: { Regex: source }, behavior: "Isolated" };
      const { pattern } = new Tokenizer({ ...EMPTY, pre_tokenizer }, {}).pre_tokenizer;
      if (pattern instanceof RegExp) return pattern;
      throw new Error("it cannot be read");
    },
    source,
    file,
  );
}
