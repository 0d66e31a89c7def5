// Runs nfc's command line inside this process, and judges how it ended.
import { EventEmitter } from "node:events";
import { Writable } from "node:stream";
import { main } from "../../src/cli/main.ts";

class Recorder extends Writable {
  text = "";
  private readonly onText: () => void;

  constructor(onText: () => void = () => {}) {
    super();
    this.onText = onText;
  }

  override _write(chunk: Buffer, _: BufferEncoding, done: () => void): void {
    this.text += chunk.toString();
    this.onText();
    done();
  }
}

export interface Ending {
  code: number;
  stdout: string;
  stderr: string;
}

const LOOK_MS = 1;

interface RunOptions {
  /** Sends Ctrl-C as soon as there is a result, to a command that waits for it. */
  untilOutput?: boolean | undefined;
  /** Sends Ctrl-C as soon as this is true, which is looked at all the time. */
  until?: (() => boolean) | undefined;
}

export async function runNfc(
  args: readonly string[],
  { untilOutput = false, until }: RunOptions = {},
): Promise<Ending> {
  const signals = new EventEmitter();
  const stdout = new Recorder(() => untilOutput && signals.emit("SIGINT"));
  const stderr = new Recorder();
  const timer = setInterval(() => until?.() && signals.emit("SIGINT"), LOOK_MS);
  const code = await main({
    ...{ argv: ["node", "nfc", ...args], env: {}, stdout, stderr },
    on: signals.on.bind(signals),
    off: signals.off.bind(signals),
  }).finally(() => clearInterval(timer));
  return { code, stdout: stdout.text, stderr: stderr.text };
}

/** A character that moves a cursor, or hides or reorders text; line breaks and tabs of tables are none. */
const UNSAFE = /(?![\n\t\u200c\u200d])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;

/**
 * @param codes the exit codes that the command may have
 * @returns the fault, in one line
 */
export function judge({ code, stdout, stderr }: Ending, codes: readonly number[]): string | null {
  if (!codes.includes(code)) return `exit ${code}: ${stderr.slice(-1500).replaceAll("\n", " | ")}`;
  const unsafe = UNSAFE.exec(stderr) ?? UNSAFE.exec(stdout);
  if (unsafe) return `prints U+${unsafe[0].codePointAt(0)?.toString(16)} as it is`;
  const lines = stderr.split("\n").filter((line) => line.startsWith("nfc: "));
  if (code !== 0 && (lines.length !== 1 || !stderr.endsWith(`${lines[0]}\n`)))
    return `exit ${code} without one line at the end: ${JSON.stringify(stderr.slice(-600))}`;
  return null;
}
