// Compares several models, checkpoints and ONNX files alike, by parameters, bytes and noted quality. Reads headers only.
import { readdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { type OpenOptions, openCheckpoint } from "../../checkpoint/checkpoint.ts";
import { isHubReference } from "../../checkpoint/hub/hub.ts";
import { readVocabularyCut } from "../../checkpoint/kept-ids.ts";
import type { NfcRecord } from "../../checkpoint/nfc-record.ts";
import { readOnnxStructure } from "../../formats/onnx/reader.ts";
import { locateData, refuseLinkOut } from "../../inference/exported/external-data.ts";
import { measureCompressed, sumCompressed } from "../../io/brotli.ts";
import { fileExists } from "../../io/exists.ts";
import { withIoErrors } from "../../io/io-error.ts";
import { nameModelFile, PRECISIONS } from "../../model/precision.ts";
import { TOOL } from "../../version.ts";
import {
  describeText,
  findEntry,
  findNotedTask,
  listPerplexities,
  nameScored,
  readRecordBeside,
  readRecordedQuality,
} from "../recorded-quality.ts";
import { findAttentionColumns, findAttentionParts } from "../weigh/attention-columns.ts";
import { findAccidents, findLargestFormat, GROUP_NAMES, readOnnxTensors, sumFormats } from "../weigh/header-tensors.ts";
import { summarize } from "../weigh/model-summary.ts";
import { tallyTensors } from "../weigh/tally.ts";
import { sumGroups, sumWeights } from "../weigh/weights.ts";
import { COMPARISON_FORMAT, type ComparedModel, type Comparison } from "./comparison-schema.ts";

export interface CompareOptions extends OpenOptions {
  title?: string | undefined;
  /** Read the files as a whole, and say what they weigh after brotli. */
  brotli?: boolean | undefined;
}

type Weighed = Omit<ComparedModel, "change">;

/**
 * @param sources checkpoints (folders, files, `hf://…`), ONNX files, folders with ONNX files; those beside a folder's
 * checkpoint are listed after it. The first model is what the others are compared with.
 * @throws NfcError naming the file that cannot be read; see `openCheckpoint` and `readOnnxStructure`
 */
export async function compareModels(sources: readonly string[], options: CompareOptions = {}): Promise<Comparison> {
  const { title = null, brotli = false, ...open } = options;
  const models: Weighed[] = [];
  for (const source of sources) {
    const { checkpoint, onnx } = await findModels(source);
    if (checkpoint) models.push(await weighCheckpoint(source, open, brotli));
    for (const file of onnx) {
      if (file !== source) await refuseLinkOut(file, source);
      models.push(await weighOnnx(file, brotli, open.signal));
    }
  }
  const [first] = models;
  const compared = models.map((model, i) => ({
    ...model,
    change: i === 0 || !first ? null : computeChange(first, model),
  }));
  return { format: COMPARISON_FORMAT, tool: { ...TOOL }, title, models: compared };
}

/** The models of a source. A source without any counts as a checkpoint, so that opening it fails with the reason. */
export async function findModels(source: string): Promise<{ checkpoint: boolean; onnx: string[] }> {
  if (isHubReference(source)) return { checkpoint: true, onnx: [] };
  if (source.endsWith(".onnx")) return { checkpoint: false, onnx: [source] };
  const status = await stat(source).catch(() => null);
  if (!status?.isDirectory()) return { checkpoint: true, onnx: [] };
  const namesIn = (folder: string) => withIoErrors(folder, () => readdir(folder));
  const [own, below] = [await namesIn(source), join(source, "onnx")];
  const onnx = [
    ...sortModels(own).map((name) => join(source, name)),
    ...(fileExists(below) ? sortModels(await namesIn(below)).map((name) => join(below, name)) : []),
  ];
  return { checkpoint: onnx.length === 0 || own.some((name) => name.includes(".safetensors")), onnx };
}

/** The ONNX files among them: the precisions that nfc writes, in their order; then the rest by name. */
function sortModels(all: readonly string[]): string[] {
  const names = all.filter((name) => name.endsWith(".onnx"));
  const known = PRECISIONS.map(nameModelFile).filter((name) => names.includes(name));
  return [...known, ...names.filter((name) => !known.includes(name)).sort()];
}

/** Sizes after brotli where they are wanted. */
async function compress(paths: readonly string[], wanted: boolean, signal: AbortSignal | undefined) {
  return wanted && { brotli: sumCompressed(paths, await measureCompressed(paths, signal)).brotli };
}

async function weighCheckpoint(source: string, options: OpenOptions, brotli: boolean): Promise<Weighed> {
  const checkpoint = await openCheckpoint(source, options);
  try {
    const { variant, parameters, dtypes, files, head } = summarize(checkpoint);
    const groups = listGroups(
      tallyTensors(checkpoint).map((one) => ({ ...one, group: GROUP_NAMES[one.group].tensors })),
    );
    const cut = readVocabularyCut(checkpoint.record, source);
    const notes = [
      ...(head.storage === "copied" ? ["the head is stored twice"] : []),
      ...(cut
        ? [`has ${cut.kept.size} of ${cut.from} tokens: its perplexity is that of its own, which are shorter`]
        : []),
    ];
    return {
      ...{ source, kind: "safetensors", variant, parameters, bytes: files.bytes, groups, notes },
      ...(await compress(checkpoint.reader.files, brotli, options.signal)),
      weights: dtypes.map(({ dtype }) => dtype).join(", "),
      quality: checkpoint.record ? readOwnQuality(checkpoint.record) : [],
    };
  } finally {
    await checkpoint.close();
  }
}

/** External data is not opened: it counts by the sizes in the header, which must not be beyond those of its files. */
async function weighOnnx(file: string, brotli: boolean, signal: AbortSignal | undefined): Promise<Weighed> {
  const structure = await readOnnxStructure(file);
  const { data } = await locateData(structure, dirname(file), { anyName: true, mayLack: !brotli });
  const tensors = readOnnxTensors(structure);
  const record = await readRecordBeside(file);
  const external = tensors.reduce((sum, tensor) => sum + tensor.externalBytes, 0);
  const bytes = (await withIoErrors(file, () => stat(file))).size + external;
  const precision = PRECISIONS.find((one) => nameModelFile(one) === basename(file));
  const dense = findAttentionParts(findAttentionColumns(tensors)) === 3;
  return {
    ...{ source: file, kind: "onnx", variant: record?.variant ?? (dense ? "dense" : null) },
    ...{ parameters: sumWeights(tensors).parameters, bytes, groups: listGroups(tensors) },
    ...(await compress([file, ...data], brotli, signal)),
    weights: precision ?? findLargestFormat(sumFormats(tensors)) ?? "",
    quality: precision && record?.exports ? readExportedQuality({ precision, bytes }, record.exports) : [],
    notes: findAccidents(file, tensors).map(({ text }) => text),
  };
}

const listGroups = (weights: Parameters<typeof sumGroups>[0]): ComparedModel["groups"] =>
  Object.entries(sumGroups(weights)).map(([group, { parameters, bytes }]) => ({ group, parameters, bytes }));

function readOwnQuality(record: NfcRecord): ComparedModel["quality"] {
  const perplexities = listPerplexities(record).map((entry) => {
    const { file, tokens } = describeText(entry);
    return { measure: "perplexity", on: file, examples: tokens, value: entry.perplexity };
  });
  const noted = findNotedTask(record);
  if (!noted?.own) return perplexities;
  return [...perplexities, { measure: noted.own.metric, on: noted.task, examples: null, value: noted.own.value }];
}

function readExportedQuality(...[file, entries]: Parameters<typeof readRecordedQuality>): ComparedModel["quality"] {
  const noted = readRecordedQuality(file, entries);
  const scores = (findEntry(file, entries)?.tasks ?? []).flatMap((score) => {
    const [measure, value] = Object.entries(score.metrics)[0] ?? [];
    return measure === undefined || value == null
      ? []
      : [{ measure, on: nameScored(score), examples: score.examples, value }];
  });
  if (!noted) return scores;
  return [{ measure: "perplexity", on: noted.file, examples: noted.tokens, value: noted.perplexity }, ...scores];
}

function computeChange(first: Weighed, model: Weighed): NonNullable<ComparedModel["change"]> {
  const percent = (before: number | null, after: number | null) =>
    before === null || after === null || before === 0 ? null : (100 * (after - before)) / before;
  return { parameters: percent(first.parameters, model.parameters), bytes: percent(first.bytes, model.bytes) };
}
