// The worker thread that ties the heads of a request.
import { parentPort } from "node:worker_threads";
import { NfcError } from "../../errors.ts";
import { type LayerTieInput, tieHeads } from "./tie.ts";

/** The message from the pool; the worker answers with a `TieReply`. */
export interface TieRequest {
  input: LayerTieInput;
  heads: number[];
}
export type TieReply = { ties: ReturnType<typeof tieHeads> } | { fault: { message: string; hint: string | undefined } };

parentPort?.on("message", ({ input, heads }: TieRequest) => {
  parentPort?.postMessage(answer(input, heads));
});

function answer(input: LayerTieInput, heads: number[]): TieReply {
  try {
    return { ties: tieHeads(input, heads) };
  } catch (error) {
    // An NfcError loses its class on the way; anything else is a bug and ends the worker, which the pool reports.
    if (!(error instanceof NfcError)) throw error;
    return { fault: { message: error.message, hint: error.hint } };
  }
}
