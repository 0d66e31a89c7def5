// A finished run that a longer one extends: what its output knows of it, the settings that go on, and how the longer one begins.

import { stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { openCheckpoint } from "../checkpoint/checkpoint.ts";
import { NFC_RECORD_FILE, type NfcRecord, readNfcRecord } from "../checkpoint/nfc-record.ts";
import { NfcError } from "../errors.ts";
import { fileExists } from "../io/exists.ts";
import { withIoErrors } from "../io/io-error.ts";
import { parseJsonWith } from "../io/json.ts";
import type { Given } from "./resolve-settings.ts";
import { METRICS_FILE, type RunFolder, type RunIdentity } from "./run-folder.ts";
import { listChangedSettings } from "./run-identity.ts";
import type { ParameterState } from "./step/parameter-state.ts";

const CANNOT_EXTEND = "its run cannot be extended: train the model on with another output, or anew with --force";

/** What the entry of every run has in the history of nfc.json. */
export const runEntrySchema = z.object({
  settings: z.record(z.string(), z.union([z.string(), z.number(), z.null()])),
  inputs: z.record(z.string(), z.string().nullable()),
});
type RunEntry = z.infer<typeof runEntrySchema>;

/** A model that a run has finished. */
export interface FinishedRun<Entry extends RunEntry> {
  folder: string;
  record: NfcRecord;
  /** The run in the record's history. */
  entry: Entry;
  /** Steps done. */
  steps: number;
}

/** The settings of a run, and the finished one that it extends. */
export interface BegunRun<Settings, Entry extends RunEntry> {
  settings: Given<Settings>;
  extended: FinishedRun<Entry> | null;
  /** The record that the new model's continues, where it is not the source's. */
  past: NfcRecord | null;
}

/** What tells runs on text from those on a task, as far as an extension needs it. */
export interface RunKind<Settings, Entry extends RunEntry> {
  /** The table of the settings that flags give. */
  settings: Readonly<Partial<Record<keyof Settings, unknown>>>;
  /** Whether an entry of a history is of such a run. */
  isOwn: (entry: NfcRecord["history"][number]) => boolean;
  /** The entry, as far as an extension needs it. */
  schema: z.ZodType<Entry>;
  countSteps: (entry: Entry) => number;
  /** The settings of a longer run: what is not given is as it was. @throws NfcError "usage" for one that is no longer */
  extend: (finished: FinishedRun<Entry>, given: Given<Settings>) => Given<Settings>;
}

/**
 * The settings that are given, with those of the run that goes on: an interrupted one is typed again as it was, unless it
 * extends a finished one, whose settings it inherits.
 * @throws NfcError "usage" for an extension that adds nothing, "invalid-file" for a run that cannot be extended
 */
export async function findBegunRun<Settings, Entry extends RunEntry>(
  folder: Pick<RunFolder, "exists" | "identity" | "hasEnded">,
  kind: RunKind<Settings, Entry>,
  { output, resume, given }: { output: string; resume: boolean; given: Given<Settings> },
): Promise<BegunRun<Settings, Entry>> {
  const own = { settings: { ...given, extendedFrom: 0 }, extended: null, past: null };
  if (!resume) return own;
  if (!folder.exists()) {
    const extended = await readFinishedRun(output, kind);
    return extended ? { settings: kind.extend(extended, given), extended, past: extended.record } : own;
  }
  const identity = await folder.identity();
  const from = Number(identity.extendedFrom ?? 0);
  if (from === 0) return own;
  const settings = { ...inheritSettings(kind.settings, identity, given), extendedFrom: from };
  const finished = await readFinishedRun(output, kind);
  if (finished?.steps === from) return { settings, extended: finished, past: finished.record };
  // The longer run may have replaced the finished one's model already.
  const replaced = finished && (await folder.hasEnded()) ? finished.record : null;
  return { settings, extended: null, past: replaced && { ...replaced, history: replaced.history.slice(0, -1) } };
}

/** The run that made the model in a folder; null where that is no model, or was made by anything else. */
async function readFinishedRun<Settings, Entry extends RunEntry>(
  folder: string,
  { isOwn, schema, countSteps }: RunKind<Settings, Entry>,
): Promise<FinishedRun<Entry> | null> {
  const record = await readNfcRecord(folder);
  const last = record?.history.at(-1);
  if (!record || !last || !isOwn(last)) return null;
  const entry = parseJsonWith(schema, last, join(folder, NFC_RECORD_FILE), CANNOT_EXTEND);
  return { folder, record, entry, steps: countSteps(entry) };
}

/** The settings among the values of a run's record, but for those that are given. */
export function inheritSettings<Settings>(
  table: Readonly<Partial<Record<keyof Settings, unknown>>>,
  values: Readonly<Record<string, unknown>>,
  given: Given<Settings>,
): Given<Settings> {
  const inherited = Object.keys(table).map((name) => [name, values[name]]);
  const own = Object.entries(given).filter(([, value]) => value !== undefined);
  return Object.fromEntries([...inherited, ...own]) as Given<Settings>;
}

/**
 * @param free names of settings that may differ
 * @throws NfcError "mismatch" naming each other setting and input in which the longer run differs from the finished one
 */
export function checkExtension(
  { folder, entry }: Pick<FinishedRun<RunEntry>, "folder" | "entry">,
  identity: RunIdentity,
  free: readonly string[],
): void {
  const keep = (values: object) => Object.fromEntries(Object.entries(values).filter(([key]) => !free.includes(key)));
  const changed = listChangedSettings(keep({ ...entry.settings, ...entry.inputs }), keep(identity));
  if (changed.length === 0) return;
  throw new NfcError("mismatch", `${folder}: its run had other settings: ${changed.join(", ")}`, {
    hint: "extend it with the settings that it had, or train the model on with another output",
  });
}

/** Bytes of a model's metrics.jsonl; 0 where it has none. */
export async function measureMetrics(folder: string): Promise<number> {
  const file = join(folder, METRICS_FILE);
  return fileExists(file) ? (await withIoErrors(file, () => stat(file))).size : 0;
}

/** The finished run that a run extends, and how the run goes on. */
interface Beginning<State, Finished> {
  /** Null for a run that extends none, and where the finished one is not there any more. */
  extended: Finished | null;
  /** The state in which a longer run begins. */
  makeState: (finished: Finished) => Promise<State>;
  /** Throws for a checkpoint that no such run leaves. */
  check?: (saved: State) => void;
}

/**
 * The state in which a run goes on, its arrays in the store: that of its last checkpoint, or that in which it extends a
 * finished one, whose weights go into the store, and with the state into the first checkpoint of the longer run.
 * @returns null for a run that begins and extends none
 * @throws NfcError "not-found" for a run that was killed before its first checkpoint, and whose beginning is gone since;
 * "mismatch" for a model of another form; "invalid-file"
 */
export async function loadBegunState<State extends { metricsBytes: number }, Finished extends { folder: string }>(
  folder: RunFolder<State>,
  identity: RunIdentity,
  store: ParameterState,
  { extended, makeState, check }: Beginning<State, Finished>,
): Promise<State | null> {
  const saved = folder.exists() ? await folder.load(store) : null;
  if (saved) {
    check?.(saved);
    return saved;
  }
  if (!extended) {
    if (Number(identity.extendedFrom ?? 0) === 0) return null;
    throw new NfcError("not-found", `${folder.path}: the finished run that this one extends is not there any more`, {
      hint: `remove ${folder.path} and start over`,
    });
  }
  const state = await makeState(extended);
  await loadFinished(extended.folder, store);
  await folder.createExtended(identity, extended.folder, store, state);
  return state;
}

/**
 * Reads the weights that a finished run kept. Where they are rounded, their grids are found anew: the student's are others.
 * @throws NfcError "mismatch" for a model of another form
 */
async function loadFinished(folder: string, store: ParameterState): Promise<void> {
  const model = await openCheckpoint(folder);
  await store.setRounding(false);
  try {
    for (const name of store.names)
      await store.fill(name, "value", async (into) => into.set(await model.readF32(name)));
    await store.setRounding(true);
  } finally {
    await model.close();
  }
}
