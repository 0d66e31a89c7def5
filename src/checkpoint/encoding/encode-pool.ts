// Encodes the pieces of a text in worker threads, in their order; without compiled workers, or with one thread, in place.
import { Worker } from "node:worker_threads";
import { NfcError } from "../../errors.ts";
import { fileExists } from "../../io/exists.ts";
import type { EncodeReply, EncodeWorkerData } from "./encode-worker.ts";
import type { Pipeline } from "./pipeline.ts";

/** Compiled beside this file; absent when TypeScript sources run directly. */
const WORKER = new URL("./encode-worker.js", import.meta.url);
/** Pieces that are encoded in place before workers start: a shorter text is done before they are there. */
const PIECES_IN_PLACE = 32;
/** Pieces that each worker has before it, so that none waits; all others are still in the file. */
const PIECES_AHEAD = 2;
/** More workers than this only wait for the thread that reads and writes. */
const MAX_WORKERS = 16;

/** Token ids of a piece of text. */
export type TokenIds = ArrayLike<number> & Iterable<number>;

export interface EncodeOptions extends EncodeWorkerData {
  /** Workers; with 1, the calling thread does it. */
  threads: number;
  /** The compiled worker; another one in tests. */
  worker?: URL | undefined;
}

/**
 * The ids of each piece of a text, one after the other.
 * @param pieces as `cutPieces` gives them
 * @throws NfcError as `Pipeline.encode`; Error when a worker dies
 */
export async function* encodePieces(
  pieces: AsyncIterable<string>,
  pipeline: Pipeline,
  { threads, worker = WORKER, json, file }: EncodeOptions,
): AsyncGenerator<TokenIds> {
  const size = pipeline.encodesAnyPlace && fileExists(worker) ? Math.min(threads, MAX_WORKERS) : 1;
  const place = { first: true, continued: false };
  const lanes: Lane[] = [];
  const waiting: Promise<Answer>[] = [];
  let count = 0;
  try {
    for await (const piece of pieces) {
      count++;
      if (size === 1 || count <= PIECES_IN_PLACE) {
        yield pipeline.encode(piece, place);
        continue;
      }
      const index = count % size;
      lanes[index] ??= new Lane(worker, { json, file });
      waiting.push(lanes[index].ask(piece));
      if (waiting.length > PIECES_AHEAD * size) yield takeIds(await (waiting.shift() as Promise<Answer>));
    }
    for (const answer of waiting) yield takeIds(await answer);
  } finally {
    await Promise.all(lanes.map((lane) => lane.close()));
  }
}

/** What came of a piece: a value even where it failed, since the fault is thrown only when the piece has its turn. */
type Answer = EncodeReply | { error: unknown };

function takeIds(answer: Answer): Int32Array {
  if ("ids" in answer) return answer.ids;
  if ("error" in answer) throw answer.error;
  const { code, message, hint } = answer.fault;
  throw new NfcError(code, message, { hint });
}

/** A worker, and the pieces that it was asked for: it answers them in their order. */
class Lane {
  private readonly worker: Worker;
  private readonly asked: ((answer: Answer) => void)[] = [];
  private end: { error: unknown } | null = null;

  constructor(worker: URL, workerData: EncodeWorkerData) {
    this.worker = new Worker(worker, { workerData });
    this.worker.on("message", (reply: EncodeReply) => this.asked.shift()?.(reply));
    this.worker.on("error", (error) => this.fail(error));
    this.worker.on("exit", (code) => this.fail(new Error(`an encoding worker ended with code ${code}`)));
  }

  ask(piece: string): Promise<Answer> {
    if (this.end) return Promise.resolve(this.end);
    const answer = new Promise<Answer>((resolve) => this.asked.push(resolve));
    this.worker.postMessage(piece);
    return answer;
  }

  async close(): Promise<void> {
    await this.worker.terminate();
  }

  private fail(error: unknown): void {
    this.end ??= { error };
    for (const answer of this.asked.splice(0)) answer(this.end);
  }
}
