// Tells a fault that the caller can mend, an NfcError, from a bug.
import { NfcError, openCheckpoint } from "noiseformer-compiler";

try {
  await openCheckpoint("nowhere");
} catch (error) {
  if (!(error instanceof NfcError)) throw error;
  console.log(error.code, "|", error.message, "|", error.hint);
}
