// Escapes the unprintable characters of text from files and networks, which no output passes on as they are.

/**
 * Characters that move a cursor, hide, or reorder the text around them: controls, format characters (direction marks,
 * byte order marks), line and paragraph separators, and surrogates without a partner. The zero-width non-joiner (U+200C)
 * and joiner (U+200D) are left out, because Persian words and emoji are written with them.
 */
export const UNPRINTABLE = /(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

/** Characters of an offending text that a message quotes. */
const MAX_QUOTED = 120;

/** Text for a terminal, whose unprintable characters become \u{...}. */
export function escapeTerminal(text: string): string {
  return text.replace(UNPRINTABLE, (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`);
}

/**
 * A value as JSON whose unprintable characters are escaped as JSON has it: \u202e. It stands on one line unless `indent`
 * gives the spaces of a level.
 */
export function escapeJson(value: unknown, indent?: number): string {
  // Line breaks can only be those of the layout: JSON.stringify escapes the others.
  return (JSON.stringify(value, null, indent) ?? String(value)).replace(UNPRINTABLE, (character) =>
    character === "\n" && indent !== undefined
      ? character
      : Array.from(
          { length: character.length },
          (_, i) => `\\u${character.charCodeAt(i).toString(16).padStart(4, "0")}`,
        ).join(""),
  );
}

/** A name from a file in quotes and shortened, safe to print in a message. */
export function quoteUntrusted(text: string): string {
  return escapeJson(text.length > MAX_QUOTED ? `${text.slice(0, MAX_QUOTED)}…` : text);
}

/** A command line that a POSIX shell reads back as the same arguments. */
export function formatCommand(args: readonly string[]): string {
  return args.map((arg) => (/^[\w@%+=:,./-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", "'\\''")}'`)).join(" ");
}
