// Catches the NfcError that an action must throw, and checks what every such error owes its reader: one line.
import { expect } from "vitest";
import { NfcError } from "../../src/errors.ts";

/** The NfcError that `action` throws or rejects with; fails the test when there is none, or when it is another error. */
export async function failureOf(action: () => unknown): Promise<NfcError> {
  let result: unknown;
  try {
    result = await action();
  } catch (error) {
    if (!(error instanceof NfcError)) throw error;
    expect(error.message).not.toMatch(/[\r\n]/);
    expect(error.hint ?? "").not.toMatch(/[\r\n]/);
    return error;
  }
  throw new Error(`expected an NfcError, got ${JSON.stringify(result)}`);
}
