// The command line: sets up commander, runs one command, turns what it throws into one line and an exit code.
import { Command, CommanderError, Help, type OutputConfiguration } from "commander";
import { NfcError } from "../errors.ts";
import { TOOL } from "../version.ts";
import { COMMANDS, type CommandEntry } from "./command-table.ts";
import { EXIT, formatError, reportFailure } from "./exit-code.ts";
import { fitHelp } from "./help-text.ts";
import { makeOutputError, watchStreams } from "./output-guard.ts";
import { type Context, type Io, type OutputFlags, SIGNALS } from "./terminal.ts";
import { addTimingsFlag, runTimed } from "./timings.ts";
import { checkFlags, helpCommand, onUsageFault, ROOT_FLAGS, suggestChoices } from "./usage.ts";

/** A terminal that closes sends SIGHUP more than once: from the system and from its shell. */
const HANGUP_MS = 2000;

/** Runs the command line in `io` and gives its exit code. Never throws, never exits. */
export async function main(io: Io): Promise<number> {
  const streams = watchStreams(io);
  const code = await runUntilSignal(io);
  const fault = await streams.finish();
  if (fault === null || code === EXIT.bug || code === EXIT.interrupted) return code;
  if (code !== EXIT.usage) io.stderr.write(`nfc: ${formatError(makeOutputError(fault))}\n`);
  return EXIT.usage;
}

async function runUntilSignal(io: Io): Promise<number> {
  const abort = new AbortController();
  let hangup: NodeJS.Timeout | undefined;
  const release = () => {
    clearTimeout(hangup);
    for (const signal of SIGNALS) io.off(signal, stop);
  };
  // Only the first signal is caught: a second one ends the process at once, as the system does by default.
  const stop = () => {
    io.off("SIGINT", stop);
    io.off("SIGTERM", stop);
    hangup ??= setTimeout(() => io.off("SIGHUP", stop), HANGUP_MS).unref();
    abort.abort();
  };
  for (const signal of SIGNALS) io.on(signal, stop);
  try {
    await runTimed(io, () => runCommand(io.argv.slice(2), io, abort.signal));
    return EXIT.ok;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    const failure = abort.signal.aborted ? toInterruption(error) : error;
    return reportFailure(failure, io, readOutputFlags(io.argv));
  } finally {
    release();
  }
}

async function runCommand(args: readonly string[], io: Io, signal: AbortSignal): Promise<void> {
  // Commands inside a demo need an argv of their own for the model's record. Fields are named one by one, because
  // spreading `process` would call all its getters, and open stdin.
  const { env, stdout, stderr } = io;
  const inner: Io = {
    argv: ["node", "nfc", ...args],
    env,
    stdout,
    stderr,
    get stdin() {
      return io.stdin;
    },
    on: io.on.bind(io),
    off: io.off.bind(io),
  };
  const run = (next: readonly string[], nextIo: Io) => runCommand(next, nextIo, signal);
  const program = await makeProgram({ io: inner, signal, run }, args);
  if (args.length === 0) stderr.write("nfc: a command is missing; these are there:\n\n");
  checkFlags(program, args);
  await program.parseAsync(inner.argv);
}

async function makeProgram(context: Context, args: readonly string[]): Promise<Command> {
  const root = new Command("nfc")
    .description(
      "Makes GPT-2-class models smaller: ties Q and K of every attention head, exports compact ONNX and safetensors.",
    )
    .version(TOOL.version)
    .addHelpText("after", EXAMPLES)
    .showSuggestionAfterError(false) // usage.ts suggests
    .helpCommand(false)
    .configureOutput(makeOutput(context.io))
    // Without this, "[options]" in each line would leave no room for the descriptions.
    .configureHelp({ subcommandTerm: (each) => new Help().subcommandTerm(each).replace(" [options]", "") });
  root.exitOverride(onUsageFault(root));
  for (const entry of COMMANDS) root.addCommand(inherit(await makeCommand(entry, context, args), root));
  return root.addCommand(inherit(helpCommand(root), root));
}

/** The command with its flags where the line is about it, else what the help of nfc shows of it. */
async function makeCommand(entry: CommandEntry, context: Context, args: readonly string[]): Promise<Command> {
  const { name, description, argument } = entry;
  if (isAbout(args, name)) return (await entry.load())(context).description(description);
  const command = new Command(name).description(description);
  return argument ? command.arguments(argument) : command;
}

/** Whether a command's flags are needed: it is called, its help is asked for, or a flag is looked for in all commands. */
function isAbout([first = "", second]: readonly string[], name: string): boolean {
  if (first.startsWith("-")) return !ROOT_FLAGS.includes(first);
  return (first === "help" ? second : first) === name;
}

function inherit(command: Command, root: Command): Command {
  suggestChoices(command);
  if (command.name() !== "help") addTimingsFlag(command);
  return command.copyInheritedSettings(root).exitOverride(onUsageFault(command));
}

/** Width of help where the output is no terminal. */
const HELP_WIDTH = 80;

function makeOutput({ stdout, stderr }: Io): OutputConfiguration {
  const width = (stream: NodeJS.WritableStream & { columns?: number }) => stream.columns || HELP_WIDTH;
  return {
    writeOut: (text) => stdout.write(fitHelp(text, width(stdout))),
    writeErr: (text) => stderr.write(fitHelp(text, width(stderr))),
    getOutHelpWidth: () => width(stdout),
    getErrHelpWidth: () => width(stderr),
    outputError: () => {}, // `onUsageFault` throws what it says
  };
}

const EXAMPLES = `
Examples:
  $ nfc demo
  $ nfc convert gpt2.safetensors   # writes gpt2-nfc
  $ nfc distill --data text.txt    # after it: writes gpt2-nfc-distilled
  $ nfc export --onnx              # after both: writes gpt2-nfc-distilled-onnx
  $ nfc inspect gpt2/
  $ nfc convert gpt2/ -o out/nf --calibration text.txt
  $ nfc distill out/nf --teacher gpt2/ --data text.txt -o out/nf-distilled
  $ nfc eval out/nf-distilled --text valid.txt --against gpt2/
  $ nfc export out/nf-distilled --onnx -o out/nf-onnx
  $ nfc generate out/nf-onnx --prompt Once
  $ nfc report gpt2/ out/nf-distilled

A model is a folder, a .safetensors file, a shard index, or hf://owner/name[@revision].
Exit codes: 0 ok, 1 a check failed, 2 wrong usage or bad input, 3 a model that nfc check cannot read,
70 a bug of ours, 130 interrupted.`;

/** Replaces a bare abort by a message; other faults, and aborts that say what was saved, stay as they are. */
function toInterruption(error: unknown): unknown {
  const aborted = error instanceof NfcError ? error.code === "aborted" && !error.hint : isAbortError(error);
  return aborted ? new NfcError("aborted", "interrupted; nothing was written") : error;
}

const isAbortError = (error: unknown) => error instanceof Error && error.name === "AbortError";

/** Reads --json from argv, because errors may come before the flags are parsed. */
function readOutputFlags(argv: readonly string[]): OutputFlags {
  return { json: argv.includes("--json") };
}
