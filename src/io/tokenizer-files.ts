// Names the files of tokenizers that travel with a model, and says of others why they stay behind.

/** Tokenizer files that are JSON: another program's loader reads them by these names. */
const JSON_FILES = [
  "tokenizer.json",
  "tokenizer_config.json",
  "vocab.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "chat_template.json",
  "byte_maps.json",
  "emoji.json",
  "encoder.json",
  "entity_vocab.json",
  "normalizer.json",
  "tekken.json",
];

/** The other files that make up a tokenizer of Hugging Face: text, and the models of SentencePiece. */
const OTHER_FILES = [
  "merges.txt",
  "vocab.txt",
  "dict.txt",
  "vocab.bpe",
  "bpe.codes",
  "chat_template.jinja",
  "tokenizer.model",
  "spiece.model",
  "sentencepiece.model",
  "sentencepiece.bpe.model",
  "spm.model",
  "spm_char.model",
  "prophetnet.tokenizer",
];

/** The files that make up a tokenizer, copied from source to output. */
export const TOKENIZER_FILES: readonly string[] = [...JSON_FILES, ...OTHER_FILES];

/** Files that define a tokenizer by themselves, in formats that nfc does not read. */
const FOREIGN_TOKENIZERS: readonly string[] = [
  ...OTHER_FILES.filter((name) => /\.(model|tokenizer|bpe|codes)$/.test(name)),
  "dict.txt",
  "byte_maps.json",
  "encoder.json",
  "tekken.json",
];

export const isJsonTokenizerFile = (name: string): boolean => JSON_FILES.includes(name);

const TIKTOKEN = /^[\w.-]+\.tiktoken$/;

/** True for the name of a tokenizer's file that travels with the model. */
export function isTokenizerFile(name: string): boolean {
  return TOKENIZER_FILES.includes(name) || TIKTOKEN.test(name);
}

/** True for a file from which a tokenizer is made that nfc does not read. */
export function isForeignTokenizer(name: string): boolean {
  return FOREIGN_TOKENIZERS.includes(name) || TIKTOKEN.test(name);
}

/** Names that tokenizers' files have, nanoGPT's meta.pkl among them. */
const LOOKS_LIKE_TOKENIZER =
  /^(tokeni[sz]|vocab|merges|spiece|sentencepiece|spm|chat_template|additional_chat_templates$|meta\.pkl$)|[-_.](vocab|merges)\.(json|txt)$|\.(spm|codes|vocab)$/i;

/** Why a file that looks like a tokenizer's does not travel with the model; null for every other file. */
export function explainLeftBehind(name: string): string | null {
  if (isTokenizerFile(name) || !LOOKS_LIKE_TOKENIZER.test(name)) return null;
  if (/\.pyc?$/.test(name)) return "it is code";
  if (/\.(pkl|pickle|bin|pt|pth|joblib|dill)$/.test(name)) return "it may be a pickle, which can run code";
  if (name === "additional_chat_templates") return "only files at the top of the folder are copied";
  return "no tokenizer of Hugging Face has a file of this name";
}
