// Opens the teacher of a student to which none is named: the source that its nfc.json names, if it is still the same.
import { basename, dirname, isAbsolute, join, relative, resolve } from "node:path";
import { type Checkpoint, type OpenOptions, openCheckpoint } from "../../checkpoint/checkpoint.ts";
import { isHubReference } from "../../checkpoint/hub/hub.ts";
import { readVocabularyCut } from "../../checkpoint/kept-ids.ts";
import { isConverted, listOwnCuts } from "../../checkpoint/nfc-record.ts";
import { describeSource } from "../../checkpoint/provenance.ts";
import { NfcError } from "../../errors.ts";
import { fileExists } from "../../io/exists.ts";

const NAME_IT = "name the teacher with --teacher";

/**
 * The places where the source of a converted model may be: its path as it is from here, from the folder in which the
 * student lies, and beside the student.
 * @throws NfcError "usage" for a student that was not converted, "not-found" where none of the places exists
 */
export function locateSource({ source, folder, record }: Checkpoint): [string, ...string[]] {
  if (record === null || !isConverted(record) || folder === null)
    throw new NfcError("usage", `${source}: no nfc.json says which model it was converted from`, { hint: NAME_IT });
  const { path } = record.source;
  if (isHubReference(path)) return [path];
  const beside = relative("", dirname(resolve(folder)));
  const places = [path, ...(isAbsolute(path) ? [] : [join(beside, path)]), join(beside, basename(path))];
  const [first, ...others] = new Set(places.filter((place) => fileExists(place)));
  if (first !== undefined) return [first, ...others];
  throw new NfcError("not-found", `${source}: was converted from ${path}, which is not there any more`, {
    hint: `put it back, or ${NAME_IT}`,
  });
}

/**
 * Opens the first of the places whose files have the hashes that the student's record names. The student says what the
 * conversion was told about the source, such as the number of heads.
 * @throws NfcError "mismatch" where all have others; as `openCheckpoint`
 */
export async function openSource(
  { source, record, config }: Checkpoint,
  places: readonly string[],
  options: OpenOptions,
): Promise<Checkpoint> {
  const known = (record?.source.files ?? []).map(({ sha256 }) => sha256).join();
  const rows = (record && readVocabularyCut({ cuts: listOwnCuts(record) }, source)?.from) ?? config.vocab_size;
  const { nHead = config.n_head, activation = config.activation, trimVocab = rows } = options;
  for (const place of places) {
    const teacher = await openCheckpoint(place, { ...options, nHead, activation, trimVocab });
    try {
      options.onProgress?.({ phase: "hashing the teacher", done: 0, total: null, unit: "files" });
      const { files } = await describeSource(teacher, options.signal);
      if (files.map(({ sha256 }) => sha256).join() === known) return teacher;
    } catch (error) {
      await teacher.close();
      throw error;
    }
    await teacher.close();
  }
  throw new NfcError("mismatch", `${places[0]}: is not as it was when ${source} was made from it (sha256)`, {
    hint: `convert it again, restore it, or ${NAME_IT}`,
  });
}
