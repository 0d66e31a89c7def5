// The stages of a transfer step: which layers of teacher and student run one after another on the teacher's stream.
import type { TransferKind } from "../transfer-match.ts";

export type TransferStage =
  /** The teacher's layer moves the stream on. */
  | { kind: "teach"; taught: number }
  /** The same, and the student's layer learns the attention of that layer on the same input. */
  | { kind: "attend"; taught: number; learned: number }
  /** The student's layer learns the stream from what it was after the last such stage. */
  | { kind: "match"; learned: number };

/**
 * With `hidden`, a student's layer learns all of the teacher's from its own up to where the next one's begins, and the
 * first one all before them too: a student that matches every layer has the teacher's last stream.
 * @param layers the teacher's layer of each of the student's
 * @param count of the teacher's layers
 */
export function planTransfer(kind: TransferKind, layers: readonly number[], count: number): TransferStage[] {
  if (kind !== "hidden")
    return listRange(0, (layers.at(-1) as number) + 1).map((taught) => {
      const learned = layers.indexOf(taught);
      return learned < 0 ? { kind: "teach", taught } : { kind: "attend", taught, learned };
    });
  return layers.flatMap((first, learned): TransferStage[] => [
    ...listRange(learned === 0 ? 0 : first, layers[learned + 1] ?? count).map(
      (taught): TransferStage => ({ kind: "teach", taught }),
    ),
    { kind: "match", learned },
  ]);
}

function listRange(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i);
}
