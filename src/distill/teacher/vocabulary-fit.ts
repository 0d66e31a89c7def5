// What a teacher must have in common with its student, to be asked about the same token ids.

import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { NfcError } from "../../errors.ts";

type Side = Pick<Checkpoint, "source" | "config">;

/** @throws NfcError "mismatch" for another vocabulary, or fewer positions than the `length` tokens that are read at a time */
export function checkTeacherFits(student: Side, teacher: Side, length: number): void {
  const [own, other] = [student.config, teacher.config];
  if (own.vocab_size !== other.vocab_size)
    throw new NfcError(
      "mismatch",
      `${student.source} has ${own.vocab_size} tokens, its teacher ${teacher.source} ${other.vocab_size}`,
      { hint: "the teacher must have the student's vocabulary" },
    );
  if (length > other.n_positions)
    throw new NfcError(
      "mismatch",
      `windows of ${length} tokens, but the teacher ${teacher.source} has ${other.n_positions} positions`,
      { hint: "give a smaller --length" },
    );
}
