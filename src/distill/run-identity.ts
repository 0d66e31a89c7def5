// Compares a run that goes on with the one that began: its settings, and the fingerprints of its inputs.
import { createHash } from "node:crypto";
import type { Checkpoint } from "../checkpoint/checkpoint.ts";
import { describeSource } from "../checkpoint/provenance.ts";
import { NfcError } from "../errors.ts";
import type { LongCall } from "../progress.ts";
import type { RunFolder, RunIdentity } from "./run-folder.ts";

/** sha256 over the weight files' hashes, the configuration, and the tokens that were selected. */
export async function fingerprintModel(
  checkpoint: Checkpoint,
  signal: AbortSignal | undefined,
  onProgress?: LongCall["onProgress"],
): Promise<string> {
  const { files } = await describeSource(checkpoint, signal, onProgress);
  const { config, selection } = checkpoint;
  const parts = [files.map(({ sha256 }) => sha256), config, ...(selection === undefined ? [] : [selection])];
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
}

/**
 * Takes the run's folder for this process, until it is released, where the run may begin or go on.
 * @throws NfcError "exists", also while another process is at work in it; "not-found", "mismatch"
 */
export async function claimRun(
  folder: Pick<RunFolder, "path" | "refuseOccupied" | "identity" | "claim">,
  identity: RunIdentity,
  { resume, force }: { resume: boolean; force: boolean },
): Promise<void> {
  if (!resume) await folder.refuseOccupied(force);
  const changed = resume ? listChangedSettings(await folder.identity(), identity) : [];
  if (changed.length > 0)
    throw new NfcError("mismatch", `${folder.path}: this run had other settings: ${changed.join(", ")}`, {
      hint: "resume with the settings that it began with, or start over with --force",
    });
  return folder.claim();
}

/** Settings that runs of earlier versions lack, with the values by which those went. */
const ADDED_SETTINGS: Readonly<Record<string, string | number>> = {
  average: 0,
  transfer: "probabilities",
  cacheKind: "top-k",
  devicePrecision: "fp32",
  quantize: "none",
  quantizeSteps: 0,
  budget: 0,
  block: 0,
  embeddingBits: 0,
  symmetric: "no",
  grid: "fixed",
};

/** Names of the settings in which two runs differ, as `name (old → new)`. */
export function listChangedSettings(old: object, current: object): string[] {
  const [before, after] = [withAdded(old, current), withAdded(current, old)];
  return [...new Set([...Object.keys(before), ...Object.keys(after)])]
    .filter((key) => before[key] !== after[key])
    .map((key) => `${key} (${showValue(before[key])} → ${showValue(after[key])})`);
}

/** Values with those that the other run has and this one, of an earlier version, went by. */
function withAdded(values: object, other: object): Record<string, unknown> {
  return { ...Object.fromEntries(Object.entries(ADDED_SETTINGS).filter(([name]) => name in other)), ...values };
}

function showValue(value: unknown): string {
  return typeof value === "string" && value.length > 16 ? `${value.slice(0, 12)}…` : String(value);
}
