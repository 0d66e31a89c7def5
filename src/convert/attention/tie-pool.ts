// Spreads the heads of a layer over worker threads; without compiled workers, or with one thread, ties in place.
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { NfcError } from "../../errors.ts";
import { fileExists } from "../../io/exists.ts";
import { timePhase } from "../../io/timings.ts";
import { assembleLayer, type HeadTie, type LayerTie, type LayerTieInput, tieLayer } from "./tie.ts";
import type { TieReply, TieRequest } from "./tie-worker.ts";

/** Compiled beside this file; absent when TypeScript sources run directly. */
const WORKER = new URL("./tie-worker.js", import.meta.url);
/** More threads than this only wait for memory. */
const MAX_THREADS = 8;

export interface TiePoolOptions {
  /** All cores unless given. */
  threads?: number | undefined;
  /** The compiled worker; another one in tests. */
  worker?: URL | undefined;
}

export class TiePool {
  private readonly workers: Worker[] = [];
  private readonly size: number;
  private readonly worker: URL;

  constructor({ threads = availableParallelism(), worker = WORKER }: TiePoolOptions = {}) {
    this.worker = worker;
    this.size = fileExists(worker) ? Math.min(threads, MAX_THREADS) : 1;
  }

  /**
   * Ties one layer. One call at a time.
   * @throws NfcError as `tieLayer`, "aborted"; Error when a worker dies
   */
  async tie(input: LayerTieInput, { signal }: { signal?: AbortSignal | undefined } = {}): Promise<LayerTie> {
    if (this.size === 1) return timePhase("tying", () => tieLayer(input));
    const heads = Array.from({ length: input.n_head }, (_, head) => head);
    const share = Math.ceil(heads.length / this.size);
    const lanes = Math.ceil(heads.length / share);
    const parts = Array.from({ length: lanes }, (_, lane) => heads.slice(lane * share, (lane + 1) * share));
    try {
      const ask = () => Promise.all(parts.map((part, lane) => this.ask(lane, { input, heads: part }, signal)));
      const ties = await timePhase("tying", ask);
      return assembleLayer(input, ties.flat());
    } catch (error) {
      await this.close(); // otherwise a worker that still runs would answer the next call with these heads
      throw error;
    }
  }

  /** Ends the workers; a later call starts new ones. */
  async close(): Promise<void> {
    await Promise.all(this.workers.map((worker) => worker.terminate()));
    this.workers.length = 0;
  }

  private ask(lane: number, request: TieRequest, signal: AbortSignal | undefined): Promise<HeadTie[]> {
    this.workers[lane] ??= new Worker(this.worker);
    const worker = this.workers[lane];
    return new Promise((resolve, reject) => {
      // Removed one by one: `terminate` waits for "exit" with a listener of its own.
      const listeners = {
        message: (reply: TieReply) =>
          settle(() =>
            "ties" in reply
              ? resolve(reply.ties)
              : reject(new NfcError("invalid-file", reply.fault.message, { hint: reply.fault.hint })),
          ),
        error: (error: unknown) => settle(() => reject(error)),
        exit: (code: number) => settle(() => reject(new Error(`a tie worker ended with code ${code}`))),
      };
      const settle = (action: () => void) => {
        for (const [event, listener] of Object.entries(listeners)) worker.off(event, listener);
        signal?.removeEventListener("abort", abort);
        action();
      };
      const abort = () => settle(() => reject(new NfcError("aborted", "interrupted")));
      if (signal?.aborted) return abort();
      signal?.addEventListener("abort", abort, { once: true });
      for (const [event, listener] of Object.entries(listeners)) worker.on(event, listener);
      worker.postMessage(request);
    });
  }
}
