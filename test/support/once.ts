// What several test files need and none changes: made by the first that asks, and found by all others of the same run.
import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { inject } from "vitest";
import { readErrno } from "../../src/io/io-error.ts";

const LOOK_MS = 20;

/**
 * The folder `name` that the files of a run share, which `make` fills. Nothing may be changed in it.
 * @throws what `make` throws, in every file that asks
 */
export async function once(name: string, make: (folder: string) => unknown): Promise<string> {
  const folder = join(inject("sharedFolder"), name);
  const unfinished = `${folder}.unfinished`;
  while (!existsSync(folder)) {
    // Only one of two workers creates it; the other one waits until it has its name, or is gone because making failed.
    if (!claim(unfinished)) {
      await sleep(LOOK_MS);
      continue;
    }
    try {
      if (existsSync(folder)) break; // finished between the two looks
      await make(unfinished);
      renameSync(unfinished, folder);
    } finally {
      rmSync(unfinished, { recursive: true, force: true });
    }
  }
  return folder;
}

function claim(folder: string): boolean {
  try {
    mkdirSync(folder);
    return true;
  } catch (error) {
    if (readErrno(error) === "EEXIST") return false;
    throw error;
  }
}
