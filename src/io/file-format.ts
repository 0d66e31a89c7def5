// Recognizes files of other tools by their first bytes, and says what each is and what to do about it.
import { extname } from "node:path";

/** Bytes of a file's beginning that decide what it is. */
export const HEAD_BYTES = 64 * 1024;

/** First number of data files of llm.c and modded-nanogpt: uint16 ids of GPT-2, uint32 ids of Llama 3. */
export const LLMC_IDS = { uint16: 20240520, uint32: 20240801 } as const;
/** How what a clone without git-lfs holds instead of a large file begins. */
export const LFS_STARTS: readonly string[] = [
  "version https://git-lfs.github.com/spec/",
  "version https://hawser.github.com/spec/",
];

/** A file that is neither text, token ids nor safetensors. */
export interface FileFormat {
  /** With its article: "a zip archive". */
  what: string;
  /** What to do where training or test data was asked for. */
  asData: string;
  /** What to do where a checkpoint was asked for. */
  asCheckpoint: string;
  /** It holds a PyTorch pickle, or may do. */
  pickle?: boolean | undefined;
}

interface Signature extends FileFormat {
  /** The bytes, as Latin-1. */
  bytes: string;
  /** Where they stand; 0 unless given. */
  at?: number | undefined;
  /** The file is text as a whole. Any other signature counts only where control characters follow. */
  text?: boolean | undefined;
}

const WEIGHTS_AS_DATA = "name the text, or token ids as a .bin file";
const SAFETENSORS_FIRST = "give the safetensors checkpoint it was made from";
const NO_CHECKPOINT = "give a safetensors checkpoint";

const describeWeights = (what: string, asCheckpoint = SAFETENSORS_FIRST): FileFormat => ({
  what,
  asData: WEIGHTS_AS_DATA,
  asCheckpoint,
});
const describeArchive = (what: string, command: string): FileFormat => {
  const hint = `unpack it first, for example with ${command}`;
  return { what, asData: hint, asCheckpoint: hint };
};
const describeTable = (what: string, reader: string): FileFormat => ({
  what,
  asData: `save its texts as JSON lines first, for example in Python: ${reader}.to_json("data.jsonl", orient="records", lines=True)`,
  asCheckpoint: NO_CHECKPOINT,
});
const describeDocument = (what: string): FileFormat => ({
  what,
  asData: "save it as plain text first",
  asCheckpoint: NO_CHECKPOINT,
});

const FROM_TENSORFLOW = "transformers 4, from_pretrained(..., from_tf=True), save_pretrained";
const ARROW = describeTable("an Arrow file (Hugging Face datasets)", "datasets.Dataset.from_file(FILE)");
const TENSORFLOW_INDEX = describeWeights(
  "a part of a TensorFlow checkpoint",
  "convert it to safetensors first: transformers 4, convert_gpt2_original_tf_checkpoint_to_pytorch.py",
);
const LLMC_WEIGHTS = describeWeights(
  "a checkpoint of llm.c",
  "convert it first with llm.c's dev/eval/export_hf.py, which writes a folder with model.safetensors",
);
const PICKLE: FileFormat = {
  what: "a Python pickle (PyTorch)",
  asData: "save its token ids first, as uint16 with numpy's tofile, or its text",
  asCheckpoint: NO_CHECKPOINT,
  pickle: true,
};
const ZIP = describeArchive("a zip archive", "unzip");
const NUMPY_ARCHIVE: FileFormat = {
  what: "a NumPy archive",
  asData: "save its array of token ids alone, with numpy.save",
  asCheckpoint: "save the arrays with safetensors.numpy.save_file first",
};
const LFS_POINTER: FileFormat = {
  what: "a Git LFS pointer",
  asData: "fetch the file itself: git lfs pull",
  asCheckpoint: "fetch the weights themselves: git lfs pull",
};

const SIGNATURES: readonly Signature[] = [
  ...LFS_STARTS.map((bytes) => ({ bytes, text: true, ...LFS_POINTER })),
  { bytes: "\x1f\x8b", ...describeArchive("a gzip archive", "gunzip") },
  { bytes: "\x28\xb5\x2f\xfd", ...describeArchive("a zstd archive", "zstd -d") },
  { bytes: "\xfd7zXZ\0", ...describeArchive("an xz archive", "xz -d") },
  { bytes: "BZh", ...describeArchive("a bzip2 archive", "bunzip2") },
  { bytes: "7z\xbc\xaf\x27\x1c", ...describeArchive("a 7z archive", "7z x") },
  { bytes: "Rar!\x1a\x07", ...describeArchive("a RAR archive", "unrar x") },
  { bytes: "\x04\x22\x4d\x18", ...describeArchive("an LZ4 archive", "lz4 -d") },
  { bytes: "ustar", at: 257, ...describeArchive("a tar archive", "tar -xf") },
  { bytes: "PAR1", ...describeTable("a Parquet file", "pandas.read_parquet(FILE)") },
  { bytes: "ARROW1", ...ARROW },
  { bytes: "\xff\xff\xff\xff", ...ARROW },
  { bytes: "FEA1", ...describeTable("a Feather file", "pandas.read_feather(FILE)") },
  { bytes: "ORC", ...describeTable("an ORC file", "pandas.read_orc(FILE)") },
  { bytes: "Obj\x01", ...describeTable("an Avro file", "pandas.DataFrame(fastavro.reader(open(FILE, 'rb')))") },
  { bytes: "SQLite format 3\0", ...describeTable("an SQLite database", "pandas.read_sql(QUERY, CONNECTION)") },
  { bytes: "%PDF-", text: true, ...describeDocument("a PDF document") },
  { bytes: "{\\rtf", text: true, ...describeDocument("an RTF document") },
  { bytes: "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", ...describeDocument("an Office document") },
  { bytes: "MMIDIDX\0\0", ...describeWeights("the index of Megatron's token ids", NO_CHECKPOINT) },
  { bytes: "GGUF", ...describeWeights("a GGUF (llama.cpp) model") },
  { bytes: "lmgg", ...describeWeights("a GGML (llama.cpp) model") },
  { bytes: "fmgg", ...describeWeights("a GGML (llama.cpp) model") },
  { bytes: "tjgg", ...describeWeights("a GGML (llama.cpp) model") },
  { bytes: "TFL3", at: 4, ...describeWeights("a TensorFlow Lite model") },
  {
    bytes: "\x89HDF\r\n\x1a\n",
    ...describeWeights("a TensorFlow checkpoint (HDF5)", `convert it to safetensors first: ${FROM_TENSORFLOW}`),
  },
];

/** Control characters that texts have: tab, line feed, form feed, carriage return, escape. */
const TEXT_CONTROLS: ReadonlySet<number> = new Set([9, 10, 12, 13, 27]);

/** First numbers of llm.c's other files: weights of GPT-2 and Llama, optimizer states, tokenizers, HellaSwag. */
const LLMC_OTHERS: ReadonlyMap<number, FileFormat> = new Map([
  [20240326, LLMC_WEIGHTS],
  [20240803, LLMC_WEIGHTS],
  [20240527, describeWeights("an optimizer state of llm.c", LLMC_WEIGHTS.asCheckpoint)],
  [20240328, describeWeights("a tokenizer of llm.c", NO_CHECKPOINT)],
  [20240522, describeWeights("an evaluation file of llm.c (HellaSwag)", NO_CHECKPOINT)],
]);

/** Other formats by the ends of their names, for files whose bytes say nothing. */
const NAMES: readonly { pattern: RegExp; format: FileFormat }[] = [
  {
    pattern: /\.onnx$/,
    format: describeWeights("an ONNX model", "give the safetensors checkpoint it was exported from"),
  },
  { pattern: /\.gguf$/, format: describeWeights("a GGUF (llama.cpp) model") },
  { pattern: /\.ggml$/, format: describeWeights("a GGML (llama.cpp) model") },
  {
    pattern: /\.h5$/,
    format: describeWeights("a TensorFlow checkpoint", `convert it to safetensors first: ${FROM_TENSORFLOW}`),
  },
  {
    pattern: /\.msgpack$/,
    format: describeWeights(
      "a Flax checkpoint",
      "convert it to safetensors first: transformers 4, from_pretrained(..., from_flax=True), save_pretrained",
    ),
  },
  { pattern: /\.npz$/, format: NUMPY_ARCHIVE },
  { pattern: /\.(data-\d{5}-of-\d{5}|ckpt\.(index|meta))$/, format: TENSORFLOW_INDEX },
  { pattern: /\.(tflite|pb|mlmodel)$/, format: describeWeights("a model of another runtime") },
  { pattern: /\.distcp$/, format: describeWeights("a shard of PyTorch's distributed checkpoints") },
  { pattern: /\.parquet$/, format: describeTable("a Parquet file", "pandas.read_parquet(FILE)") },
  { pattern: /\.arrow$/, format: ARROW },
  { pattern: /\.tfrecords?$/, format: describeTable("a TFRecord file", "pandas.DataFrame(RECORDS)") },
];

/** The format of a file by the end of its name alone; null for names that say nothing. */
export function findFormatByName(path: string): FileFormat | null {
  const name = path.toLowerCase();
  return NAMES.find(({ pattern }) => pattern.test(name))?.format ?? null;
}

/** The format that a file's first bytes give away; null for text, token ids, safetensors and what nobody knows. */
export function recognizeFormat(head: Uint8Array): FileFormat | null {
  const start = Buffer.from(head.buffer, head.byteOffset, Math.min(head.byteLength, 512)).toString("latin1");
  if (start.startsWith("PK") && hasControls(head.subarray(2, 4))) return recognizeZip(start);
  const protocol = start.charCodeAt(1);
  if (head[0] === 0x80 && protocol >= 2 && protocol <= 5 && !looksLikeSafetensors(head)) return PICKLE;
  const isBinary = hasControls(head.subarray(0, 512));
  const found = SIGNATURES.find(({ bytes, at = 0, text }) => start.startsWith(bytes, at) && (text || isBinary));
  if (found) return found;
  return LLMC_OTHERS.get(readInt32(head)) ?? null;
}

/** Whether the bytes begin as a safetensors file does: a header of JSON right after its length of 8 bytes. */
export function looksLikeSafetensors(head: Uint8Array): boolean {
  return " {\t\r\n".includes(String.fromCharCode(head[8] ?? 0));
}

/** Whether the bytes begin as a file of token ids of llm.c or modded-nanogpt does. */
export function looksLikeLlmcIds(head: Uint8Array): boolean {
  return Object.values<number>(LLMC_IDS).includes(readInt32(head));
}

/** Whether the bytes begin as NumPy's .npy does. */
export function looksLikeNumpy(head: Uint8Array): boolean {
  return Buffer.from(head.subarray(0, 6)).toString("latin1") === "\x93NUMPY";
}

/** Whether bytes hold control characters that no text has. */
export function hasControls(bytes: Uint8Array): boolean {
  return bytes.some((byte) => byte < 32 && !TEXT_CONTROLS.has(byte));
}

/** Whether a text is a page of HTML, which a failed download leaves under any name. */
export function isHtml(text: string): boolean {
  return /^\uFEFF?\s*(<!--[\s\S]{0,1000}?-->\s*)?<(!doctype\s+html|html|head)\b/i.test(text.slice(0, 4096));
}

/** The little-endian int32 at `offset` (in bytes); 0 past the end. */
export function readInt32(bytes: Uint8Array, offset = 0): number {
  if (bytes.byteLength < offset + 4) return 0;
  return new DataView(bytes.buffer, bytes.byteOffset).getInt32(offset, true);
}

/** What a zip holds shows in the name of its first entry (length at byte 26, text at byte 30). */
function recognizeZip(start: string): FileFormat {
  const length = start.charCodeAt(26) + 256 * start.charCodeAt(27);
  const entry = start.slice(30, 30 + (Number.isNaN(length) ? 0 : length));
  if (extname(entry) === ".npy") return NUMPY_ARCHIVE;
  if (/(^|\/)(data\.pkl|version|byteorder|\.format_version)$/.test(entry)) return PICKLE;
  if (/^(\[Content_Types\]\.xml|_rels\/|word\/|xl\/|mimetype)/.test(entry))
    return describeDocument("an Office document");
  return { ...ZIP, pickle: true };
}
