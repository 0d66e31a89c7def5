// Holds models against their limits and a baseline: what nfc check does in CI.
import { dirname, join, resolve } from "node:path";
import { NfcError } from "../errors.ts";
import { fileExists } from "../io/exists.ts";
import { refuseUnmarkedFile } from "../io/marked-file.ts";
import { sha256File } from "../io/sha256.ts";
import { formatBytes, formatSignedPercent, formatThousands } from "../report/render/format.ts";
import { findLargestFormat } from "../report/weigh/header-tensors.ts";
import { countByWidth, describeAttentionGrowth } from "./attention-growth.ts";
import { BASELINE_FORMAT, type BaselineEntry, findEntry, readBaseline, writeBaseline } from "./baseline.ts";
import { type WeighedModel, weighModel } from "./measure-model.ts";
import { toPathBelow } from "./model-files.ts";
import { readNotedQuality } from "./quality-budget.ts";
import { BASELINE_FILE_NAME, readSizeConfig, type SizeEntry } from "./size-config.ts";
import { parseBytes, parseGrowth } from "./units.ts";

export interface CheckOptions {
  /** Folder of the configuration. */
  folder: string;
  /** File of the configuration; nfc.size.json or package.json in the folder unless given. */
  config?: string | undefined;
  baseline?: string | undefined;
  /** Write what is found as the new baseline, whatever the old one says; absolute limits still count. */
  updateBaseline?: boolean | undefined;
  /** A model that the baseline does not know fails. */
  requireBaseline?: boolean | undefined;
  signal?: AbortSignal | undefined;
}

export interface CheckedModel {
  name: string;
  path: string;
  passed: boolean;
  /** Bytes; null where no file was found or read. */
  size: number | null;
  sizeLimit: number | null;
  baselineSize: number | null;
  /** Bytes after brotli, of a model with a limit for them. */
  brotliSize: number | null;
  brotliLimit: number | null;
  baselineBrotli: number | null;
  parameters: number | null;
  baselineParameters: number | null;
  /** Groups of tensors whose bytes changed, largest growth first. */
  groups: { group: string; before: number; now: number }[];
  /** Whether it grew by more than its maxGrowth. */
  grew: boolean;
  /** Why it failed, one line each. */
  failures: string[];
  /** Facts that fail nothing, one line each. */
  notes: string[];
  /** The file could not be read as a model. */
  unreadable: boolean;
}

export interface CheckResult {
  passed: boolean;
  unreadable: boolean;
  config: string;
  baseline: string;
  updated: boolean;
  models: CheckedModel[];
}

/**
 * Holds the models of an nfc.size.json against their limits and the committed baseline, as `nfc check` does. Reads headers
 * only, but for models with a `brotliLimit`; `updateBaseline` hashes files as well. With it, nothing is written when a model is missing, unreadable, or over a
 * limit of its own.
 * @example
 * ```js
 * const { passed, models } = await checkSizes({ folder: "." });
 * for (const { name, failures } of models) console.log(name, failures);
 * ```
 * @throws NfcError "not-found", "invalid-file" for configuration or baseline, "usage" for a path outside the folder
 */
export async function checkSizes(options: CheckOptions): Promise<CheckResult> {
  const { updateBaseline = false, requireBaseline = false, signal } = options;
  const { file, config } = await readSizeConfig(options.folder, options.config);
  const root = resolve(dirname(file));
  const named =
    options.baseline ?? (config.baseline === undefined ? undefined : join(root, toPathBelow(root, config.baseline)));
  const baselineFile = named ?? join(dirname(file), BASELINE_FILE_NAME);
  if (updateBaseline && named !== undefined) await refuseUnmarkedFile(named, `"${BASELINE_FORMAT}"`, "a baseline");
  // A baseline that is named must exist: without it, growth would go unseen.
  const wanted = !updateBaseline && (named !== undefined || fileExists(baselineFile));
  const baseline = wanted ? await readBaseline(baselineFile) : null;
  const weighed = new Map<string, WeighedModel>();
  const models: CheckedModel[] = [];
  for (const entry of config.models) {
    const { checked, model } = await checkEntry(root, entry, findEntry(baseline, nameEntry(entry)), {
      told: !updateBaseline,
      requireBaseline: requireBaseline && !updateBaseline,
      signal,
    });
    if (model) weighed.set(checked.name, model);
    models.push(checked);
  }
  const passed = models.every((model) => model.passed);
  if (updateBaseline && passed) await writeBaseline(baselineFile, await selectEntries(root, weighed, signal));
  return {
    passed,
    unreadable: models.some(({ unreadable }) => unreadable),
    config: file,
    baseline: baselineFile,
    updated: updateBaseline && passed,
    models,
  };
}

const nameEntry = ({ name, path }: SizeEntry) => name ?? path;

async function checkEntry(
  root: string,
  entry: SizeEntry,
  before: BaselineEntry | null,
  { told, requireBaseline, signal }: { told: boolean; requireBaseline: boolean; signal: AbortSignal | undefined },
): Promise<{ checked: CheckedModel; model: WeighedModel | null }> {
  const name = nameEntry(entry);
  const checked: CheckedModel = {
    ...{ name, path: entry.path, passed: true, size: null, parameters: null, groups: [], failures: [], notes: [] },
    sizeLimit: readLimit(entry.limit),
    baselineSize: before?.bytes ?? null,
    ...{ brotliSize: null, brotliLimit: readLimit(entry.brotliLimit), baselineBrotli: before?.brotli ?? null },
    baselineParameters: before?.parameters ?? null,
    ...{ grew: false, unreadable: false },
  };
  const fail = (text: string) => {
    checked.failures.push(text);
    checked.passed = false;
  };
  let model: WeighedModel | null = null;
  let quality: string[] = [];
  try {
    model = await weighModel(root, entry.path, { brotli: entry.brotliLimit !== undefined, signal });
    quality = await checkQuality(root, entry);
    if (model === null) fail("no file matches: check the path, and that the model is built before the check");
  } catch (error) {
    if (!(error instanceof NfcError) || error.code === "usage") throw error;
    checked.unreadable = true;
    model = null;
    fail(error.hint ? `${error.message}; ${error.hint}` : error.message);
  }
  if (!model) return { checked, model };
  checked.size = model.bytes;
  checked.brotliSize = model.brotli;
  checked.parameters = model.parameters;
  for (const text of [...checkLimits(entry, model), ...quality, ...checkAccidents(entry, model, before)]) fail(text);
  if (before) {
    checked.groups = describeChangedGroups(before.groups, model.groups);
    const growth = checkGrowth(entry, model, before, checked.groups);
    checked.grew = growth.length > 0;
    for (const text of growth) fail(text);
  } else if (requireBaseline) fail("the baseline does not know this model: nfc check --update-baseline");
  else if (entry.maxGrowth !== undefined && told)
    checked.notes.push("no baseline knows it: maxGrowth is not checked; nfc check --update-baseline");
  return { checked, model };
}

function readLimit(limit: SizeEntry["limit"]): number | null {
  if (limit === undefined) return null;
  return typeof limit === "number" ? limit : parseBytes(limit);
}

function checkLimits(entry: SizeEntry, model: WeighedModel): string[] {
  const faults: string[] = [];
  const compare = (bytes: number, limit: number | null, when: string) => {
    if (limit !== null && bytes > limit)
      faults.push(
        `${formatBytes(bytes)}${when} is ${formatBytes(bytes - limit)} over the limit of ${formatBytes(limit)}`,
      );
  };
  compare(model.bytes, readLimit(entry.limit), "");
  if (model.brotli !== null) compare(model.brotli, readLimit(entry.brotliLimit), " after brotli");
  const { maxParameters } = entry;
  if (maxParameters === undefined) return faults;
  if (model.parameters === null)
    faults.push("maxParameters: its weights are packed in a way that headers do not explain, or in a GGUF file");
  else if (model.parameters > maxParameters)
    faults.push(`${formatThousands(model.parameters)} parameters, over the limit of ${formatThousands(maxParameters)}`);
  return faults;
}

async function checkQuality(root: string, entry: SizeEntry): Promise<string[]> {
  const { path, maxPerplexity, maxBitsPerByte, minAccuracy } = entry;
  if ([maxPerplexity, maxBitsPerByte, minAccuracy].every((budget) => budget === undefined)) return [];
  const { perplexity, bitsPerByte, accuracy } = await readNotedQuality(root, path);
  const faults: string[] = [];
  if (maxPerplexity !== undefined) {
    if (perplexity === null)
      faults.push("maxPerplexity: no nfc.json beside it notes one (nfc eval, nfc export --text)");
    else if (perplexity > maxPerplexity) faults.push(`perplexity ${perplexity.toFixed(3)}, over ${maxPerplexity}`);
  }
  if (maxBitsPerByte !== undefined) {
    if (bitsPerByte === null)
      faults.push("maxBitsPerByte: no nfc.json beside it notes any, of text (nfc eval, nfc export --text)");
    else if (bitsPerByte > maxBitsPerByte) faults.push(`${bitsPerByte.toFixed(4)} bits a byte, over ${maxBitsPerByte}`);
  }
  if (minAccuracy !== undefined) {
    if (accuracy === null)
      faults.push("minAccuracy: no nfc.json beside it notes one (nfc finetune --task, nfc eval --task)");
    else if (accuracy < minAccuracy) faults.push(`accuracy ${accuracy.toFixed(4)}, under ${minAccuracy}`);
  }
  return faults;
}

function checkAccidents({ allow = [], dtype }: SizeEntry, model: WeighedModel, before: BaselineEntry | null): string[] {
  const found = model.accidents.filter(({ kind }) => !allow.includes(kind)).map(({ text }) => text);
  const growth = before && describeAttentionGrowth(model, before);
  if (growth && !allow.includes("k-in-c_attn")) found.push(growth);
  const wanted = dtype ?? (before && findLargestFormat(before.dtypes));
  const now = findLargestFormat(model.dtypes);
  if (wanted && now && wanted !== now && !allow.includes("dtype"))
    found.push(`its matrices are ${now}, not ${wanted}: was it saved in another format?`);
  return found;
}

type GroupBytes = Readonly<Record<string, { bytes: number }>>;

function describeChangedGroups(before: GroupBytes, now: GroupBytes): CheckedModel["groups"] {
  const bytesOf = (groups: GroupBytes, group: string) =>
    Object.hasOwn(groups, group) ? (groups[group]?.bytes ?? 0) : 0;
  return [...new Set([...Object.keys(before), ...Object.keys(now)])]
    .map((group) => ({ group, before: bytesOf(before, group), now: bytesOf(now, group) }))
    .filter((change) => change.before !== change.now)
    .sort((a, b) => b.now - b.before - (a.now - a.before));
}

function checkGrowth(
  { maxGrowth }: SizeEntry,
  { bytes, brotli }: WeighedModel,
  before: BaselineEntry,
  groups: CheckedModel["groups"],
): string[] {
  if (maxGrowth === undefined) return [];
  const describe = (now: number, old: number, when: string): string[] => {
    const growth = now - old;
    const allowed = parseGrowth(maxGrowth)?.(old) ?? null;
    if (allowed === null || growth <= allowed) return [];
    const percent = old > 0 ? ` (${formatSignedPercent((100 * growth) / old)})` : "";
    return [`grew by ${formatBytes(growth)}${when}${percent}, ${maxGrowth} is allowed`];
  };
  const grown = groups.filter((change) => change.now > change.before).slice(0, 3);
  const where = grown.map(({ group, before: old, now }) => `${group} +${formatBytes(now - old)}`).join(", ");
  const raw = describe(bytes, before.bytes, "").map(
    (text) => `${text}; what grew: ${where || "the graph or the headers"}`,
  );
  return brotli === null || before.brotli === undefined
    ? raw
    : [...raw, ...describe(brotli, before.brotli, " after brotli")];
}

async function selectEntries(
  root: string,
  weighed: ReadonlyMap<string, WeighedModel>,
  signal: AbortSignal | undefined,
): Promise<Record<string, BaselineEntry>> {
  const entries: Record<string, BaselineEntry> = Object.create(null);
  for (const [name, model] of weighed) {
    const { bytes, brotli, parameters, attention, groups, dtypes, files } = model;
    const hashed: BaselineEntry["files"] = {};
    for (const [file, size] of Object.entries(files))
      hashed[file] = { bytes: size, sha256: await sha256File(join(root, file), signal) };
    const compressed = brotli !== null && { brotli };
    const queryKey = countByWidth(model);
    const widths = queryKey !== null && { queryKey };
    entries[name] = { bytes, ...compressed, parameters, attention, ...widths, groups, dtypes, files: hashed };
  }
  return entries;
}
