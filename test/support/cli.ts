// Runs the command line inside the test: a fake process that records what is written, with or without a terminal.
import { EventEmitter } from "node:events";
import { Readable, Writable } from "node:stream";
import { expect } from "vitest";
import { main } from "../../src/cli/main.ts";
import { type Io, SIGNALS } from "../../src/cli/terminal.ts";

export interface CliResult {
  code: number;
  stdout: string;
  stderr: string;
}

export interface CliOptions {
  /** stderr is a terminal. */
  tty?: boolean;
  env?: Record<string, string>;
  /** What is piped in. */
  stdin?: string | Uint8Array;
  /** stdout is a terminal. */
  ttyOut?: boolean;
  /** The width of the terminals, 80 unless given. */
  columns?: number;
  /** Called with every piece of stdout; may emit signals. */
  onStdout?: (text: string, signals: EventEmitter) => void;
  /** Called with every piece of stderr; may emit signals. */
  onStderr?: (text: string, signals: EventEmitter) => void;
}

/** Keeps all that is written. */
export class Recorder extends Writable {
  text = "";
  private readonly notify: (text: string) => void;

  constructor(notify: (text: string) => void = () => {}, _columns?: number) {
    super();
    this.notify = notify;
  }

  override _write(chunk: Buffer, _: BufferEncoding, done: () => void): void {
    this.text += chunk.toString();
    this.notify(chunk.toString());
    done();
  }
}

/** A terminal, as far as a spinner needs one. */
class Terminal extends Recorder {
  readonly isTTY = true;
  readonly columns: number;
  readonly rows = 24;

  constructor(notify: (text: string) => void, columns: number) {
    super(notify);
    this.columns = columns;
  }

  clearLine = (): boolean => this.write("<clear>");
  cursorTo = (): boolean => this.write("<home>");
  moveCursor = (): boolean => true;
  getColorDepth = (): number => 8;
}

/** `nfc` with these arguments. */
export async function nfc(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  const signals = new EventEmitter();
  const Out = options.ttyOut ? Terminal : Recorder;
  const { columns = 80 } = options;
  const stdout = new Out((text) => options.onStdout?.(text, signals), columns);
  const Stream = options.tty ? Terminal : Recorder;
  const stderr = new Stream((text) => options.onStderr?.(text, signals), columns);
  const io: Io = {
    argv: ["node", "nfc", ...args],
    env: options.env ?? {},
    stdout,
    stderr,
    ...(options.stdin !== undefined && { stdin: Readable.from([options.stdin]) }),
    on: signals.on.bind(signals),
    off: signals.off.bind(signals),
  };
  const code = await main(io);
  if (SIGNALS.some((signal) => signals.listenerCount(signal) > 0)) throw new Error("a listener is left");
  return { code, stdout: stdout.text, stderr: stderr.text };
}

/** stderr of a command line that must fail with one line. */
export async function refused(line: string[]): Promise<string> {
  const { code, stdout, stderr } = await nfc([...line, "-q"]);
  expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  expect(stderr).toMatch(/^nfc: [^\n]+\n$/);
  return stderr.slice("nfc: ".length, -1);
}

/** Runs a command line that gets `signal` when stderr first shows `sign`. */
export async function interrupted(line: readonly string[], sign: string, signal = "SIGINT") {
  let fired = false;
  const result = await nfc(line, {
    onStderr: (text, signals) => {
      if (fired || !text.includes(sign)) return;
      fired = true;
      signals.emit(signal);
    },
  });
  expect(fired).toBe(true);
  return result;
}

/** What a command that succeeds prints. */
export async function ok(...args: string[]): Promise<{ stdout: string; stderr: string }> {
  const { code, ...written } = await nfc(args);
  expect({ args, code, ...(code !== 0 && written) }).toEqual({ args, code: 0 });
  return written;
}
