// Byte-level BPE as GPT-2's: learns merges from text, and writes them as a tokenizer.json.

export const END = "<|endoftext|>";

/** GPT-2's printable stand-ins for the 256 bytes. */
function byteAlphabet() {
  const printable = (b) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
  let extra = 0;
  return Array.from({ length: 256 }, (_, b) => String.fromCharCode(printable(b) ? b : 256 + extra++));
}

/** The most frequent adjacent pairs, merged one by one; ties go to the pair that sorts first. */
export function learnMerges(text, count) {
  const alphabet = byteAlphabet();
  const words = new Map();
  for (const word of text.match(/ ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu)) {
    const symbols = [...Buffer.from(word)].map((b) => alphabet[b]).join(" ");
    words.set(symbols, (words.get(symbols) ?? 0) + 1);
  }
  let entries = [...words].map(([symbols, n]) => [symbols.split(" "), n]);
  const merges = [];
  while (merges.length < count) {
    const pairs = new Map();
    for (const [symbols, n] of entries)
      for (let i = 1; i < symbols.length; i++) {
        const pair = `${symbols[i - 1]} ${symbols[i]}`;
        pairs.set(pair, (pairs.get(pair) ?? 0) + n);
      }
    const [best] = [...pairs].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1))[0];
    merges.push(best);
    const [left, right] = best.split(" ");
    entries = entries.map(([symbols, n]) => {
      const merged = [];
      for (let i = 0; i < symbols.length; i++)
        if (symbols[i] === left && symbols[i + 1] === right) merged.push(left + symbols[++i]);
        else merged.push(symbols[i]);
      return [merged, n];
    });
  }
  return merges;
}

export function tokenizerJson(merges) {
  const tokens = [END, ...byteAlphabet(), ...merges.map((merge) => merge.replace(" ", ""))];
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [{ id: 0, content: END, ...flags }],
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: { type: "ByteLevel", add_prefix_space: true, trim_offsets: false, use_regex: true },
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: "",
      end_of_word_suffix: "",
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: merges.map((merge) => merge.split(" ")),
    },
  };
}
