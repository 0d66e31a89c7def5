// What the files of an entry weigh, from headers alone: bytes, parameters by group and format, and signs of accidents.
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { withIoErrors } from "../../io/io-error.ts";
import { printable } from "../format.ts";
import { attentionParts, headerTensors, type Mishap, mishapsOf } from "../header-tensors.ts";
import { type GroupWeight, WeightSums } from "../weight-sums.ts";
import { modelFiles } from "./model-files.ts";

export interface WeighedModel extends GroupWeight {
  /** By name below the configuration's folder. */
  files: Record<string, number>;
  groups: Record<string, GroupWeight>;
  /** Bytes by format, of tensors that are weights of matrices. */
  dtypes: Record<string, number>;
  /** Columns of c_attn in widths: 3 = [q, k, v], 2 = [s, v]; null without one, or of both. */
  attention: 2 | 3 | null;
  mishaps: Mishap[];
}

/**
 * @param root folder of the configuration; @param path file, folder or glob below it
 * @returns null where nothing matches
 * @throws NfcError "invalid-file" or "unsupported" for a file that cannot be read, "usage" for a path outside
 */
export async function weighModel(root: string, path: string): Promise<WeighedModel | null> {
  const { models, others } = await modelFiles(root, path);
  if (models.length + others.length === 0) return null;
  const files: Record<string, number> = {};
  const size = async (name: string) => {
    const file = join(root, name);
    files[name] = (await withIoErrors(file, () => stat(file))).size;
  };
  const sums = new WeightSums();
  const mishaps: Mishap[] = [];
  const parts = new Set<2 | 3>();
  for (const name of models) {
    await size(name);
    const tensors = await headerTensors(join(root, name));
    for (const tensor of tensors) {
      sums.addTensor(tensor);
      const columns = attentionParts(tensor);
      if (columns !== null) parts.add(columns);
    }
    mishaps.push(...mishapsOf(name, tensors));
  }
  for (const name of others) {
    await size(name);
    if (/_data(_\d+)?$/.test(name)) continue;
    sums.add("optimiser state", { bytes: files[name] as number, parameters: 0 });
    mishaps.push({
      accident: "optimiser-state",
      text: `${printable(name)} is training state: leave it out of the model`,
    });
  }
  const [attention = null] = parts.size === 1 ? parts : [];
  return {
    files: sorted(files),
    groups: sorted(sums.groups),
    dtypes: sorted(sums.dtypes),
    bytes: Object.values(files).reduce((a, b) => a + b, 0),
    parameters: sums.parameters,
    attention,
    mishaps,
  };
}

function sorted<T>(record: Record<string, T>): Record<string, T> {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
}
