// The check of what goes into the linear algebra of one head.
import { NfcError } from "../errors.ts";

/** @param what the numbers are, for the message @throws NfcError "invalid-file" where one of them is not finite */
export function requireFiniteHead(head: number, what: string, parts: readonly (Float64Array | null)[]): void {
  if (parts.every((part) => part === null || part.every(Number.isFinite))) return;
  throw new NfcError("invalid-file", `head ${head}: ${what} is not finite`, { hint: "the checkpoint is damaged" });
}
