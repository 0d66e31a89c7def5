// The worker thread that encodes pieces of a text.
import { parentPort, workerData } from "node:worker_threads";
import { type ErrorCode, NfcError } from "../../errors.ts";
import { checkDefinition } from "./definition.ts";
import { Pipeline } from "./pipeline.ts";

/** What a worker is started with: the content of a tokenizer.json, and the file's name for messages. */
export interface EncodeWorkerData {
  json: string;
  file: string;
}
/** The answer to a piece of text; an NfcError loses its class on the way. */
export type EncodeReply =
  | { ids: Int32Array }
  | { fault: { code: ErrorCode; message: string; hint: string | undefined } };

if (parentPort !== null) answerMessages(parentPort, workerData);

function answerMessages(port: NonNullable<typeof parentPort>, { json, file }: EncodeWorkerData): void {
  const pipeline = new Pipeline(checkDefinition(JSON.parse(json), file));
  port.on("message", (text: string) => {
    const reply = encode(pipeline, text);
    port.postMessage(reply, "ids" in reply ? [reply.ids.buffer as ArrayBuffer] : []);
  });
}

function encode(pipeline: Pipeline, text: string): EncodeReply {
  try {
    // Such a piece never begins a text: the first ones are encoded by the thread that reads it.
    return { ids: new Int32Array(pipeline.encode(text, { first: false, continued: true })) };
  } catch (error) {
    // Anything else is a bug and ends the worker, which the pool reports.
    if (!(error instanceof NfcError)) throw error;
    const { code, message, hint } = error;
    return { fault: { code, message, hint } };
  }
}
