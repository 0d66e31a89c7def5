// Cuts a stream of text where both sides encode alone as they do together, so that memory does not grow with the text.
import { NfcError } from "../../errors.ts";
import { characterBefore } from "./added-tokens.ts";
import type { Pipeline } from "./pipeline.ts";

/** Characters of a piece: enough that an encoder's call costs little, and few enough that memory stays flat. */
const PIECE_LENGTH = 2 ** 18;
/** Characters between two looks for a place to cut. */
const LOOK_LENGTH = 2 ** 16;
/** Characters that are held where no cut is found. */
const MAX_PIECE_LENGTH = 2 ** 26;

/**
 * Pieces of a text that can be encoded one by one.
 * @param pieceLength characters from which on a piece is cut off
 * @throws NfcError "unsupported" for too long a text without a cut
 */
export async function* cutPieces(
  texts: AsyncIterable<string>,
  pipeline: Pipeline,
  pieceLength = PIECE_LENGTH,
): AsyncGenerator<string> {
  const cutter = new Cutter(pipeline);
  let parts: string[] = [];
  let length = 0;
  let cut = 0; // the last place to cut, from the start of the parts
  for await (const text of texts)
    for (let from = 0; from < text.length; from += LOOK_LENGTH) {
      const part = text.slice(from, from + LOOK_LENGTH);
      const before = parts.at(-1)?.slice(-2) ?? "";
      const at = cutter.findLast(before + part, before.length);
      if (at > 0) cut = length - before.length + at;
      parts.push(part);
      length += part.length;
      if (length < pieceLength) continue;
      if (cut > 0) {
        const whole = parts.join("");
        yield whole.slice(0, cut);
        parts = [whole.slice(cut)];
        length -= cut;
        cut = 0;
      } else if (length > MAX_PIECE_LENGTH)
        throw new NfcError("unsupported", `${MAX_PIECE_LENGTH} characters of text without a place to cut it`, {
          hint: `put spaces or line breaks into the text; ${pipeline.file} encodes it whole where it cannot be cut`,
        });
    }
  if (length > 0) yield parts.join("");
}

const SPACES = new Set([" ", "\n", "\r", "\t"]);
const SOLID = /^[\p{L}\p{N}]$/u;
/** Letters and digits that normalizing leaves what they are, perhaps with marks. */
const STABLE = /^[\p{L}\p{N}]+\p{M}*$/u;

class Cutter {
  private readonly pipeline: Pipeline;
  /** Neighbors inside added tokens, and last characters of those that look at what follows them. */
  private readonly forbidden = new Set<string>();
  private readonly isPossible: boolean;
  private readonly hasBorders: boolean;
  private readonly memory = new Map<string, boolean>();

  constructor(pipeline: Pipeline) {
    this.pipeline = pipeline;
    const { normalizer, preTokenizer, added, normalizedContents } = pipeline;
    for (const token of added) this.forbid(token.content, token.single_word, token.rstrip);
    const late = [...normalizedContents].some(
      ([{ single_word, rstrip }, content]) => single_word || rstrip || /[^\s▁][\s▁]/u.test(content),
    );
    const keeps = (preTokenizer?.keepsCut ?? true) && (normalizer?.keepsCut ?? true);
    this.isPossible = keeps && !(normalizer !== null && late);
    this.hasBorders =
      normalizer === null && preTokenizer?.endsAtBorders === true && !added.some((one) => one.single_word);
  }

  private forbid(content: string, singleWord: boolean, rstrip: boolean): void {
    for (let i = 1; i < content.length; i++) this.forbidden.add(content.slice(i - 1, i + 1));
    for (const space of SPACES) {
      if (singleWord && content.startsWith(space)) this.forbidden.add(space);
      if (rstrip) this.forbidden.add(`${content.at(-1)}${space}`);
    }
  }

  /** The last place after `from` where `text` can be cut; 0 for none. */
  findLast(text: string, from: number): number {
    if (!this.isPossible) return 0;
    for (let at = text.length - 1; at >= Math.max(1, from - 1); at--) if (this.canCut(text, at)) return at;
    return 0;
  }

  private canCut(text: string, at: number): boolean {
    const after = text[at] as string;
    if (this.isBorder(text, at, after)) return true;
    if (!SPACES.has(after)) return false;
    const before = characterBefore(text, at);
    const pair = before + after;
    const known = this.memory.get(pair);
    if (known !== undefined) return known;
    const result = this.decide(before, after);
    if (this.memory.size < 2 ** 16) this.memory.set(pair, result);
    return result;
  }

  /** A border between letters, digits and marks, where GPT-2's words end although no space follows. */
  private isBorder(text: string, at: number, after: string): boolean {
    if (!this.hasBorders) return false;
    const before = text[at - 1] as string;
    return ASCII.test(before + after) && classify(before) !== classify(after) && !this.forbidden.has(before + after);
  }

  private decide(before: string, after: string): boolean {
    const { normalizer, preTokenizer, model } = this.pipeline;
    if (this.forbidden.has(`${before.at(-1)}${after}`) || this.forbidden.has(after)) return false;
    const afterMarks = normalizer === null && preTokenizer?.cutsAfterMarks === true && !/\p{White_Space}/u.test(before);
    if (!afterMarks && !SOLID.test(before)) return false;
    if (normalizer !== null && !STABLE.test(before.normalize("NFKD"))) return false;
    if (preTokenizer?.marksStart && after !== " ") return false;
    const normalized = normalizer?.normalize(before + after, true) ?? before + after;
    if (/\p{White_Space}$/u.test(normalized)) {
      if (preTokenizer?.endsWord[normalized.endsWith(" ") ? "space" : "line"]) return true;
    } else if (preTokenizer !== null) return false;
    const words = preTokenizer?.split([normalized], false) ?? [normalized];
    const word = words.map((part) => preTokenizer?.finish?.(part) ?? part).join("");
    const [left, right] = Array.from(word).slice(-2);
    return left !== undefined && right !== undefined && model.partsAt(left, right);
  }
}

const ASCII = /^[!-&(-~][!-~]$/;

function classify(character: string): "letter" | "digit" | "mark" {
  if (/[A-Za-z]/.test(character)) return "letter";
  return /[0-9]/.test(character) ? "digit" : "mark";
}
