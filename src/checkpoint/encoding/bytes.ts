// The alphabet of byte-level tokenizers: one printable character for each byte.

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);
const PRINTABLE = [...range(33, 127), ...range(161, 173), ...range(174, 256)];
const OTHERS = range(0, 256).filter((byte) => !PRINTABLE.includes(byte));

/** The characters in the order of GPT-2's first 256 ids: printable bytes as themselves, then U+0100 on for the others. */
export const BYTE_ALPHABET: readonly string[] = [...PRINTABLE, ...range(256, 256 + OTHERS.length)].map((code) =>
  String.fromCodePoint(code),
);
/** The character of each byte. */
const CHARACTERS: readonly string[] = [...PRINTABLE, ...OTHERS].reduce<string[]>((characters, byte, i) => {
  characters[byte] = BYTE_ALPHABET[i] as string;
  return characters;
}, []);
const BYTES = new Map(CHARACTERS.map((character, byte) => [character, byte]));

const CODES = Uint16Array.from(CHARACTERS, (character) => character.charCodeAt(0));

/** The characters of a text's UTF-8 bytes. */
export function mapBytes(text: string): string {
  // Through their codes: a long text that grows by single characters takes 32 bytes for each.
  const codes = Uint16Array.from(Buffer.from(text, "utf8"), (byte) => CODES[byte] as number);
  return Buffer.from(codes.buffer).toString("utf16le");
}

/** The bytes of a token; those of its own text where it has a character that stands for no byte. */
export function unmapBytes(token: string): Uint8Array {
  const bytes: number[] = [];
  for (const character of token) {
    const byte = BYTES.get(character);
    if (byte === undefined) return Buffer.from(token, "utf8");
    bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}
