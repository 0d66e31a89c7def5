// Adds to a report what its files weigh after brotli compression, and what a browser downloads beside a model file.
import { join } from "node:path";
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { hasCompanion } from "../../checkpoint/companion-files.ts";
import { CONFIG_FILE, GENERATION_FILE } from "../../checkpoint/config-file.ts";
import type { ExportedModel } from "../../inference/exported/exported-model.ts";
import { type CompressedSize, measureCompressed, sumCompressed } from "../../io/brotli.ts";
import { nameModelFile } from "../../model/precision.ts";
import type { Report } from "../report-schema.ts";

/** The files beside onnx/ that transformers.js asks for. */
const BROWSER_FILES = [CONFIG_FILE, GENERATION_FILE, "tokenizer.json", "tokenizer_config.json"];

/** The models of a report, in the order in which it has them. */
export interface ReportedModels {
  before: Checkpoint;
  after: Checkpoint;
  exports: readonly ExportedModel[];
}

/** Reads the files as a whole. @throws NfcError as reading does; "aborted" */
export async function addCompressedSizes(
  report: Report,
  { before, after, exports }: ReportedModels,
  signal?: AbortSignal,
): Promise<Report> {
  const others: string[][] = [];
  for (const { folder } of exports) others.push(await listBrowserFiles(folder));
  const listFiles = (model: ExportedModel, file: string) => {
    const found = [...model.files.values()].find(({ precision }) => `onnx/${nameModelFile(precision)}` === file);
    return found ? [found.path, ...found.data] : [];
  };
  const sizes = await measureCompressed(
    [
      ...[before, after].flatMap(({ reader }) => reader.files),
      ...exports.flatMap((model) => [...model.files.values()].flatMap(({ path, data }) => [path, ...data])),
      ...others.flat(),
    ],
    signal,
  );
  const brotliOf = (paths: readonly string[]) => sumCompressed(paths, sizes).brotli;
  const withFiles = (model: Report["before"], { reader }: Checkpoint) => ({
    ...model,
    files: { ...model.files, brotli: brotliOf(reader.files) },
  });
  return {
    ...report,
    before: withFiles(report.before, before),
    after: withFiles(report.after, after),
    exports: report.exports.map((summary, i) => ({
      ...summary,
      files: summary.files.map((one) => ({
        ...one,
        brotli: brotliOf(listFiles(exports[i] as ExportedModel, one.file)),
      })),
      others: describeOthers(exports[i] as ExportedModel, others[i] as string[], sizes),
    })),
  };
}

async function listBrowserFiles(folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const name of BROWSER_FILES) if (await hasCompanion(folder, name)) found.push(join(folder, name));
  return found;
}

function describeOthers({ folder }: ExportedModel, paths: string[], sizes: ReadonlyMap<string, CompressedSize>) {
  return { names: paths.map((path) => path.slice(folder.length + 1)), ...sumCompressed(paths, sizes) };
}
