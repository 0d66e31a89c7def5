// Reads the prompts of a command from flags, from the lines of a file, or from stdin.
import { readFile } from "node:fs/promises";
import { addAbortSignal, type Readable } from "node:stream";
import { NfcError } from "../../../errors.ts";
import { withIoErrors } from "../../../io/io-error.ts";
import type { Context } from "../../terminal.ts";

/** The limit lies beyond what any model reads. */
const MAX_STDIN_BYTES = 2 ** 26;

export interface PromptFlags {
  prompt?: string[];
  promptsFile?: string;
}

/** Collects the values of a flag that may be given several times. */
export const collectOption = (value: string, before: string[] = []): string[] => [...before, value];

/** @throws NfcError "usage" without prompts or for an empty one, "invalid-file" for text that is not UTF-8 */
export async function readPrompts(context: Context, { prompt, promptsFile }: PromptFlags): Promise<string[]> {
  if (promptsFile !== undefined) {
    if (prompt)
      throw new NfcError("usage", "--prompt and --prompts-file do not go together", { hint: "give one of them" });
    return splitLines(
      decodeText(await withIoErrors(promptsFile, () => readFile(promptsFile)), promptsFile),
      promptsFile,
    );
  }
  if (!prompt && (!context.io.stdin || context.io.stdin.isTTY))
    throw new NfcError("usage", "there is no prompt", { hint: 'give --prompt "…", or pipe text in' });
  const given = prompt ?? ["-"];
  if (given.filter((text) => text === "-").length > 1)
    throw new NfcError("usage", "--prompt - is given twice", { hint: "what is piped in is one prompt" });
  const texts: string[] = [];
  for (const [i, text] of given.entries()) {
    const whole = text === "-" ? await readPipedText(context) : text;
    if (whole === "")
      throw new NfcError("usage", `prompt ${i + 1} is empty`, { hint: 'give --prompt "…", or pipe text in' });
    texts.push(whole);
  }
  return texts;
}

/** Reads stdin without the newline at its end, which `echo` and editors add. */
async function readPipedText({ io, signal }: Context): Promise<string> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  if (io.stdin)
    for await (const piece of addAbortSignal(signal, io.stdin as Readable)) {
      pieces.push(Buffer.from(piece));
      bytes += piece.length;
      if (bytes > MAX_STDIN_BYTES)
        throw new NfcError("usage", "stdin is longer than any model reads", { hint: "pipe in a shorter text" });
    }
  return decodeText(Buffer.concat(pieces), "stdin").replace(/\r?\n$/, "");
}

function decodeText(bytes: Uint8Array, name: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new NfcError("invalid-file", `${name}: not UTF-8`, {
      hint: "convert it, for example with iconv -t utf-8",
      cause,
    });
  }
}

function splitLines(text: string, file: string): string[] {
  const lines = text.replace(/\r?\n$/, "").split(/\r?\n/);
  const empty = lines.indexOf("");
  if (empty >= 0)
    throw new NfcError("usage", `${file}: line ${empty + 1} is empty`, { hint: "give one prompt a line" });
  return lines;
}
