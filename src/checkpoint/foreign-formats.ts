// Recognizes files that are no safetensors (pickles, ONNX, GGUF, ...) and says how to convert them.
import { basename, dirname, extname, join } from "node:path";
import { NfcError } from "../errors.ts";
import {
  type FileFormat,
  findFormatByName,
  HEAD_BYTES,
  hasControls,
  isHtml,
  looksLikeLlmcIds,
  looksLikeNumpy,
  looksLikeSafetensors,
  readInt32,
  recognizeFormat,
} from "../io/file-format.ts";
import { withFile } from "../io/positional-file.ts";
import { formatCommand } from "../io/printable.ts";

/** Extensions that PyTorch programs give to pickles. */
const PICKLE_EXTENSIONS = new Set([".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle"]);

/** True for names that PyTorch pickles usually have. */
function hasPickleName(name: string): boolean {
  return PICKLE_EXTENSIONS.has(extname(name).toLowerCase());
}

/** True for names of other formats. */
export function hasForeignName(name: string): boolean {
  return findFormatByName(name) !== null;
}

/**
 * Refuses a file that is known not to be safetensors, by its first bytes or its extension.
 * @throws NfcError `unsupported`; for a pickle the hint is a one-line Python command that converts it
 */
export async function refuseOtherFormat(path: string): Promise<void> {
  const head = await withFile(path, (file) => file.read(0, Math.min(HEAD_BYTES, file.size)));
  if (looksLikeSafetensors(head) && readInt32(head, 4) === 0) return;
  const format = recognizeFormat(head);
  if (format?.pickle && !isNamedZip(path)) throw makePickleError(path, [path]);
  const other = format ?? findFormatByName(path) ?? recognizeOther(path, head);
  if (other !== null)
    throw new NfcError("unsupported", `${path}: is ${other.what}, not safetensors`, { hint: other.asCheckpoint });
  if (hasPickleName(path)) throw makePickleError(path, [path]);
  if (beginsAsText(head))
    throw new NfcError("unsupported", `${path}: is text, not safetensors`, {
      hint: "give a safetensors checkpoint; text is for --data, --text and --calibration",
    });
}

/** The first 8 bytes of a safetensors file are a length, whose upper bytes are 0. */
function beginsAsText(head: Uint8Array): boolean {
  return head.byteLength > 0 && !hasControls(head) && head.subarray(0, 8).every((byte) => byte < 128);
}

/** What is no checkpoint at all: a page of HTML, token ids, a .bin file that is no pickle. */
function recognizeOther(path: string, head: Uint8Array): Pick<FileFormat, "what" | "asCheckpoint"> | null {
  if (head.byteLength === 0) return null;
  if (isHtml(Buffer.from(head).toString("latin1")))
    return { what: "a page of HTML", asCheckpoint: "did the download go wrong? Fetch the file again" };
  const asCheckpoint = "give a safetensors checkpoint; token ids are for --data and --text";
  if (looksLikeLlmcIds(head)) return { what: "a file of token ids (llm.c)", asCheckpoint };
  if (looksLikeNumpy(head))
    return { what: "a NumPy array", asCheckpoint: "save all arrays together with safetensors.numpy.save_file" };
  const isBin = extname(path).toLowerCase() === ".bin";
  return isBin ? { what: "neither a PyTorch pickle nor any other checkpoint", asCheckpoint } : null;
}

/** A zip that is called one is taken for an archive: torch.save writes zips under other names. */
function isNamedZip(path: string): boolean {
  return extname(path).toLowerCase() === ".zip";
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
  return `python3 -c "${script}" ${formatCommand([folder, ...files])}`;
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
