// Refuses an output folder that holds the files it is made from: replacing it would destroy them.
import { realpath } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { NfcError } from "../errors.ts";
import { withIoErrors } from "../io/io-error.ts";
import { contains, resolveTarget } from "../io/output-guard.ts";
import type { Checkpoint } from "./checkpoint.ts";

/**
 * Allows an output beside or below its source, but never in its place, even with `--force`.
 * @param inputs further files that are read, such as calibration text
 * @throws NfcError "usage" naming the file that would be lost; "not-found" for an input that is not there
 */
export async function refuseOwnSource(
  output: string,
  checkpoint: Checkpoint,
  inputs: readonly string[] = [],
): Promise<void> {
  const target = await withIoErrors(output, () => resolveTarget(output));
  const folder = checkpoint.folder === null ? [] : [checkpoint.folder];
  for (const file of [...checkpoint.reader.files, ...inputs, ...folder])
    for (const place of await listPlaces(file))
      if (contains(target, place))
        throw new NfcError("usage", `${output}: holds ${file}, from which this output is made`, {
          hint: "choose another output folder",
        });
}

/** The places of a file's name and of its bytes, which differ for a link, as in the Hub's cache. */
function listPlaces(file: string): Promise<string[]> {
  return withIoErrors(file, async () => [join(await realpath(dirname(file)), basename(file)), await realpath(file)]);
}
