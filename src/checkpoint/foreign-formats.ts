// Recognizes files that are no safetensors (pickles, ONNX, GGUF, ...) and says how to convert them.
import { basename, dirname, extname, join } from "node:path";
import { NfcError } from "../errors.ts";
import { withFile } from "../io/positional-file.ts";

/** Extensions that PyTorch programs give to pickles. */
const PICKLE_EXTENSIONS = new Set([".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"]);

/** Bytes that decide: a safetensors header opens with `{` (or blanks) right after its 8-byte length. */
const SIGNATURE_BYTES = 9;
const HEADER_STARTS = new Set([..."{ \t\r\n"].map((character) => character.charCodeAt(0)));

/** "version https://git-lfs.github.com/spec/v1": what a clone without git-lfs holds instead of the weights. */
const LFS_POINTER_START = "version h";

/** Other formats by their extension, and the advice for each. */
const OTHER_FORMATS: Readonly<Record<string, { what: string; hint: string }>> = {
  ".onnx": { what: "an ONNX model", hint: "give the safetensors checkpoint it was exported from" },
  ".gguf": { what: "a GGUF (llama.cpp) model", hint: "give the safetensors checkpoint it was made from" },
  ".h5": {
    what: "a TensorFlow checkpoint",
    hint: "convert it to safetensors first: transformers 4, from_pretrained(..., from_tf=True), save_pretrained",
  },
  ".msgpack": {
    what: "a Flax checkpoint",
    hint: "convert it to safetensors first: transformers 4, from_pretrained(..., from_flax=True), save_pretrained",
  },
  ".npz": { what: "a NumPy archive", hint: "save the arrays with safetensors.numpy.save_file first" },
};

/** True for names that PyTorch pickles usually have. */
function hasPickleName(name: string): boolean {
  return PICKLE_EXTENSIONS.has(extname(name).toLowerCase());
}

/** True for names of other formats that {@link refuseOtherFormat} knows. */
export function hasForeignName(name: string): boolean {
  return Object.hasOwn(OTHER_FORMATS, extname(name).toLowerCase());
}

/**
 * Refuses a file that is known not to be safetensors, by its first bytes or its extension.
 * @throws NfcError `unsupported`; for a pickle the hint is a one-line Python command that converts it
 */
export async function refuseOtherFormat(path: string): Promise<void> {
  const head = await withFile(path, (file) => file.read(0, Math.min(SIGNATURE_BYTES, file.size)));
  if (looksLikeSafetensors(head)) return;
  const other = recognizeFormat(path, head);
  if (other !== null)
    throw new NfcError("unsupported", `${path}: is ${other.what}, not safetensors`, { hint: other.hint });
  if (isPickle(head) || hasPickleName(path)) throw makePickleError(path, [path]);
}

/** The refusal of one pickle or of the shards of one. */
export function makePickleError(source: string, files: readonly string[]): NfcError {
  const what = files.length === 1 ? "is a PyTorch pickle" : `holds ${files.length} PyTorch pickles`;
  return new NfcError("unsupported", `${source}: ${what}, which can run code when loaded; nfc reads safetensors only`, {
    hint: `convert it once (needs Python with torch 2 and safetensors): ${describePickleConversion(files)}`,
  });
}

/**
 * A shell line that writes model.safetensors beside the pickles. `weights_only=True` loads no code; clones make shared
 * memory (a tied head) acceptable to save_file; nanoGPT's dict has the weights under "model" and its sizes under
 * "model_args", which become config.json unless there is one.
 */
export function describePickleConversion(files: readonly string[]): string {
  const script = [
    "import sys,os,json,torch",
    "from safetensors.torch import save_file",
    "c=[torch.load(f,map_location='cpu',weights_only=True) for f in sys.argv[2:]]",
    "w={k:v.clone().contiguous() for d in c for k,v in d.get('model',d.get('state_dict',d)).items() if torch.is_tensor(v)}",
    "save_file(w,os.path.join(sys.argv[1],'model.safetensors'),metadata={'format':'pt'})",
    "a=c[0].get('model_args')",
    "p=os.path.join(sys.argv[1],'config.json')",
    "a and not os.path.exists(p) and json.dump(a,open(p,'w'))",
  ].join(";");
  const folder = dirname(files[0] ?? ".");
  return ["python3", "-c", `"${script}"`, shellQuote(folder), ...files.map(shellQuote)].join(" ");
}

/** One argument of a POSIX shell, quoted only where it must be. */
function shellQuote(text: string): string {
  return /^[\w./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

function looksLikeSafetensors(head: Uint8Array): boolean {
  return HEADER_STARTS.has(head[8] ?? 0);
}

/** A zip (`PK`, torch.save since 1.6) or a bare pickle of protocol 2 to 5 (0x80 and the protocol). */
function isPickle(head: Uint8Array): boolean {
  const [first, second] = head;
  return (first === 0x50 && second === 0x4b) || (first === 0x80 && second !== undefined && second >= 2 && second <= 5);
}

function recognizeFormat(path: string, head: Uint8Array): { what: string; hint: string } | null {
  const start = String.fromCharCode(...head);
  if (start.startsWith("GGUF")) return OTHER_FORMATS[".gguf"] ?? null;
  if (start === LFS_POINTER_START)
    return { what: "a Git LFS pointer", hint: "fetch the weights themselves: git lfs pull" };
  return OTHER_FORMATS[extname(path).toLowerCase()] ?? null;
}

/** The pickles among the files of a folder that hold one model: pytorch_model.bin, its shards, or nanoGPT's ckpt.pt. */
export function findPickles(folder: string, names: readonly string[]): string[] {
  const pickles = names.filter((name) => hasPickleName(name) && !NOT_WEIGHTS.test(basename(name))).sort();
  const shards = pickles.filter((name) => /^pytorch_model-\d+-of-\d+\.bin$/.test(name));
  const chosen = shards.length > 0 ? shards : pickles.slice(0, 1);
  return (pickles.includes("pytorch_model.bin") ? ["pytorch_model.bin"] : chosen).map((name) => join(folder, name));
}

/** Pickles that trainers leave beside the weights. */
const NOT_WEIGHTS = /^(training_args|optimizer|scheduler|scaler|rng_state.*)\./;
