// Measures where a command's time goes: named phases with their seconds and the bytes that they read and wrote.
//
// A phase counts while it is open and no phase inside it is, so that nothing counts twice and the seconds of phases that
// follow one another add up to the total. Phases side by side each count their own time. What runs outside
// `recordTimings` is not measured, and costs one look-up a phase or read.
import { AsyncLocalStorage } from "node:async_hooks";

/** One row of the table. */
export interface PhaseTiming {
  phase: string;
  seconds: number;
  /** Bytes read from files, and bytes written to them. */
  read: number;
  written: number;
}

export interface Timings {
  /** Time since the recording began. */
  seconds: number;
  /** Phases in the order in which they began; the last one is everything outside of them, `REST`. */
  phases: PhaseTiming[];
  /** Largest memory of the process so far, in bytes. */
  peakMemory: number;
}

/** The row of the time that no phase claims. */
export const REST = "everything else";

/** What all phases of one name add up to. */
class Row {
  read = 0;
  written = 0;
  private seconds = 0;
  /** Open phases of this name in which no other one is open. */
  private active = 0;
  private since = 0;

  start(): void {
    if (this.active++ === 0) this.since = performance.now();
  }

  stop(): void {
    if (--this.active === 0) this.seconds += (performance.now() - this.since) / 1000;
  }

  measure(): number {
    return this.seconds + (this.active > 0 ? (performance.now() - this.since) / 1000 : 0);
  }
}

/** An open phase: its row counts while none of the phases inside it is open. */
class Phase {
  readonly recording: Recording;
  readonly parent: Phase | null;
  open = true;
  private readonly row: Row;
  private inner = 0;

  constructor(recording: Recording, row: Row, parent: Phase | null) {
    this.recording = recording;
    this.row = row;
    this.parent = parent;
    if (parent && parent.inner++ === 0 && parent.open) parent.row.stop();
    row.start();
  }

  close(): void {
    this.open = false;
    if (this.inner === 0) this.row.stop();
    const { parent } = this;
    if (parent && --parent.inner === 0 && parent.open) parent.row.start();
  }

  count(kind: "read" | "written", bytes: number): void {
    this.row[kind] += bytes;
  }
}

class Recording {
  private readonly started = performance.now();
  private readonly rows = new Map<string, Row>();

  row(name: string): Row {
    const row = this.rows.get(name) ?? new Row();
    this.rows.set(name, row);
    return row;
  }

  read(): Timings {
    const named = [...this.rows].filter(([phase]) => phase !== REST);
    const phases = [...named, [REST, this.row(REST)] as const].map(([phase, row]) => {
      return { phase, seconds: row.measure(), read: row.read, written: row.written };
    });
    const seconds = (performance.now() - this.started) / 1000;
    return { seconds, phases, peakMemory: process.resourceUsage().maxRSS * 1024 };
  }
}

const current = new AsyncLocalStorage<Phase>();

/**
 * Runs `action` with a recording of its phases, which `read` gives, also before the end. Inside another recording the
 * action belongs to that one.
 */
export function recordTimings<T>(action: () => Promise<T>): { result: Promise<T>; read: () => Timings } {
  const recording = current.getStore()?.recording;
  if (recording) return { result: action(), read: () => recording.read() };
  const own = new Recording();
  return { result: runPhase(new Phase(own, own.row(REST), null), action), read: () => own.read() };
}

/**
 * Runs `action`, which may be asynchronous, as a phase; calls of one name add up. The time of phases inside it is theirs.
 * @param name what is done, as progress names it: "hashing", "writing"
 */
export function timePhase<T>(name: string, action: () => T): T {
  const parent = findOpen(current.getStore());
  if (!parent) return action();
  const { recording } = parent;
  return runPhase(new Phase(recording, recording.row(name), parent), action);
}

/** The innermost phase that is open: work in the background may outlive the one that it was begun in. */
function findOpen(phase: Phase | null | undefined): Phase | null {
  while (phase?.parent && !phase.open) phase = phase.parent;
  return phase ?? null;
}

/** Passes a stream on; what it takes to make each of its items counts as the phase `name`. */
export async function* timeStream<T>(name: string, items: AsyncIterable<T>): AsyncGenerator<T, void, undefined> {
  const iterator = items[Symbol.asyncIterator]();
  try {
    for (;;) {
      const { done, value } = await timePhase(name, () => iterator.next());
      if (done) return;
      yield value;
    }
  } finally {
    await iterator.return?.();
  }
}

function runPhase<T>(phase: Phase, action: () => T): T {
  let result: T;
  try {
    result = current.run(phase, action);
  } catch (error) {
    phase.close();
    throw error;
  }
  if (!(result instanceof Promise)) {
    phase.close();
    return result;
  }
  return result.finally(() => phase.close()) as T;
}

/** Adds bytes that were read, here or in a worker, to the open phase. */
export function countRead(bytes: number): void {
  current.getStore()?.count("read", bytes);
}

/** Adds bytes that were written to the open phase. */
export function countWritten(bytes: number): void {
  current.getStore()?.count("written", bytes);
}

/** The timings so far of the recording that this code runs in; null outside of one. */
export function readTimings(): Timings | null {
  return current.getStore()?.recording.read() ?? null;
}
