// What a student's layers can learn of a teacher's, one by one, and whether they can.
import type { ModelConfig } from "../model/config.ts";

/**
 * What a layer learns in the transfer: the teacher's attention probabilities, the output of its attention, or the
 * residual stream after the whole layer.
 */
export const TRANSFER_KINDS = ["probabilities", "outputs", "hidden"] as const;
export type TransferKind = (typeof TRANSFER_KINDS)[number];

/** The teacher's layer of each of the student's layers, ascending; null where the two have not the same layers. */
export type LayerMap = readonly number[] | null;

/** The map of a model that has its teacher's layers, all of them. */
export function listLayers(count: number): readonly number[] {
  return Array.from({ length: count }, (_, layer) => layer);
}

/** The reason why a student cannot learn a teacher's layers one by one, said of the teacher; null where it can. */
export function explainNoTransfer(
  student: ModelConfig,
  teacher: ModelConfig,
  { kind, layers }: { kind: TransferKind; layers: LayerMap },
): string | null {
  const differ = (size: "n_embd" | "n_head") => `has ${size} ${teacher[size]}, not ${student[size]}`;
  if (layers === null)
    return `has ${teacher.n_layer} layers, and nothing says from which the student's ${student.n_layer} came`;
  if (student.n_embd !== teacher.n_embd) return differ("n_embd");
  return kind === "probabilities" && student.n_head !== teacher.n_head ? differ("n_head") : null;
}
