// The files by which PyTorch distills an exported model: distill.py with its modules, and distill.json.
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import type { ModelFiles } from "../checkpoint/collect-files.ts";
import { readVocabularyCut } from "../checkpoint/kept-ids.ts";
import { withIoErrors } from "../io/io-error.ts";
import type { Given } from "./resolve-settings.ts";
import { planScript, type ScriptSettings } from "./script-settings.ts";

const SCRIPT_FORMAT = "nfc-distill/1";
/** The path holds in src/ and dist/, where this file has the same depth. */
const ASSETS = fileURLToPath(new URL("../../assets", import.meta.url));
const SCRIPT = "distill.py";
const MODULES = "nfc_distill";

/**
 * The script, its modules and its settings by their names in the folder of the export, for `ExportOptions.files`.
 * @param given settings of the distillation; those of `nfc distill` for the rest
 * @throws NfcError as `planScript` and `readVocabularyCut`
 */
export async function makeDistillFiles(
  student: Pick<Checkpoint, "config" | "record" | "source">,
  given: Given<ScriptSettings> = {},
): Promise<ModelFiles> {
  const { settings, layers } = planScript(student, given);
  const tokens = readVocabularyCut(student.record, student.source)?.kept.format() ?? null;
  const modules = await withIoErrors(ASSETS, () => readdir(join(ASSETS, MODULES)));
  const names = [SCRIPT, ...modules.filter((name) => name.endsWith(".py")).map((name) => `${MODULES}/${name}`)];
  const files = new Map<string, string | Uint8Array>();
  for (const name of names.sort()) {
    const path = join(ASSETS, name);
    files.set(name, await withIoErrors(path, () => readFile(path)));
  }
  return files.set("distill.json", `${JSON.stringify({ format: SCRIPT_FORMAT, settings, layers, tokens }, null, 2)}\n`);
}
