// The refusals of small exports made by hand, with what makes them.
import { expect } from "vitest";
import type { NfcError } from "../../../src/errors.ts";
import { openExportedModel } from "../../../src/inference/exported/exported-model.ts";
import { failureOf } from "../../support/failure.ts";

export * from "../../support/decoder-proto.ts";

/** The refusal of a folder, which names it and says what to do. */
export async function refusalOf(folder: string): Promise<NfcError> {
  const error = await failureOf(() => openExportedModel(folder));
  expect(error.message.startsWith(folder)).toBe(true);
  expect(error.hint).toBeTruthy();
  return error;
}
