// Tells what model tools write into a folder from what somebody else put there, and may want to keep.
import type { Dirent } from "node:fs";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { PAGE_MARK } from "./marked-file.ts";
import { withFile } from "./positional-file.ts";
import { isTokenizerFile } from "./tokenizer-files.ts";

/** Files that only the output of a model tool has; a folder without any of them is not one. */
const MODEL_FILE = /^(config\.json|nfc\.json)$|\.(safetensors|onnx|gguf)$/;

interface Known {
  name: Pick<RegExp, "test">;
  /** The text that the file begins with, or has near its beginning, where people write files of this name too. */
  begin?: string;
  mark?: string;
}

const ONNX_FILES: readonly Known[] = [{ name: /\.onnx([._]data(_\d+)?)?$/ }];
/** What operating systems leave in folders that somebody looks at. */
const DROPPINGS: readonly Known[] = [{ name: /^(\.DS_Store|\._.*|Thumbs\.db|desktop\.ini|\.directory)$/ }];

/** Every file that nfc and the common model tools write into a model's folder. */
const FILES: readonly Known[] = [
  { name: /^(config|generation_config|genai_config|preprocessor_config|quantize_config)\.json$/ },
  { name: /\.(safetensors(\.index\.json)?|gguf)$/ },
  { name: /^(pytorch_model.*\.bin(\.index\.json)?|tf_model\.h5|flax_model\.msgpack|training_args\.bin)$/ },
  { name: { test: isTokenizerFile } },
  { name: /^(nfc\.json|metrics\.jsonl|modeling_nfc_gpt2\.py|distill\.(py|json))$/ },
  { name: /^(state\.json|checksums\.json)$/ }, // of a run's checkpoint
  { name: /^\.nfc\.json\.nfc-(lock|tmp-.*)$/ },
  { name: /^README\.md$/, begin: "---\n" }, // a model card begins with the Hub's header
  { name: /\.html$/, mark: PAGE_MARK },
  ...ONNX_FILES,
  ...DROPPINGS,
];

/** The folders in it, with their files. */
const FOLDERS: ReadonlyMap<string, readonly Known[]> = new Map([
  ["onnx", [...ONNX_FILES, ...DROPPINGS]],
  ["nfc_distill", [{ name: /^(data|losses|run|trainer)\.py$/ }, ...DROPPINGS]],
]);

/** A repository may lie deep in folders that are none of a model's; so many entries are looked at. */
const MAX_ENTRIES = 100_000;
const BEGINNING = 4096;

/** Whether the folder holds a file that only model tools write. */
export async function looksLikeModel(folder: string): Promise<boolean> {
  return (await readdir(folder)).some((name) => MODEL_FILE.test(name));
}

/**
 * The path, below `folder`, of an entry that no model tool wrote there: a .git at any depth before all others. Null
 * where everything is known.
 */
export async function findForeignEntry(folder: string): Promise<string | null> {
  const foreign: string[] = [];
  let seen = 0;
  const walk = async (below: string, known: readonly Known[]): Promise<string | null> => {
    for (const entry of await readdir(join(folder, below), { withFileTypes: true })) {
      const path = join(below, entry.name);
      if (entry.name === ".git") return path;
      const inside = entry.isDirectory() ? (below === "" && FOLDERS.get(entry.name)) || [] : null;
      if (inside ? inside.length === 0 : !(await isKnown(join(folder, path), entry, known))) foreign.push(path);
      if (++seen > MAX_ENTRIES) return null;
      const git = inside && (await walk(path, inside));
      if (git) return git;
    }
    return null;
  };
  return (await walk("", FILES)) ?? foreign[0] ?? null;
}

async function isKnown(path: string, entry: Dirent, known: readonly Known[]): Promise<boolean> {
  const found = known.find(({ name }) => name.test(entry.name));
  if (!found) return false;
  const { begin = "", mark = "" } = found;
  if (begin === "" && mark === "") return true;
  if (!entry.isFile()) return false;
  const bytes = await withFile(path, (file) => file.read(0, Math.min(BEGINNING, file.size)));
  const text = Buffer.from(bytes).toString("latin1");
  return text.startsWith(begin) && text.includes(mark);
}
