// Wrong usage in one line: what is wrong, the nearest word that would be right, and where the help is.
import { Command, type CommanderError, InvalidArgumentError, type Option } from "commander";
import { NfcError } from "../errors.ts";

/** Turns commander's faults into usage errors of one line. Help and version pass through. */
export function onUsageFault(command: Command): (error: CommanderError) => never {
  return (error) => {
    if (error.exitCode === 0 || error.code === "commander.help") throw error;
    const line = error.message.replace(/^error: /, "").replace(/\s*\n\s*/g, " ");
    const message = line.replace(" is invalid. ", " is invalid: ").replace(/\.$/, "");
    const [word = ""] = error.code === "commander.unknownCommand" ? command.args : [];
    const names = command.commands.map((each) => each.name());
    refuse(command, error.code === "commander.excessArguments" ? nameExtra(command) : message + suggest(word, names));
  };
}

/** @throws NfcError "usage" with a hint to the command's help */
function refuse(command: Command, message: string): never {
  const hint = command.parent ? `nfc ${command.name()} --help shows the flags` : "nfc --help shows the commands";
  throw new NfcError("usage", message, { hint });
}

function nameExtra({ args, registeredArguments }: Command): string {
  const { length } = registeredArguments;
  const takes = length === 0 ? "no arguments" : `${length} argument${length === 1 ? "" : "s"}`;
  return `unexpected argument '${args[length]}': the command takes ${takes}, and a value with spaces needs quotes`;
}

/**
 * Refuses, before commander looks at the line, what it would take for something else: a flag as the value of the flag
 * before it, -onnx as -o with the value "nnx", and a mistyped flag where a required one is missing.
 * @throws NfcError "usage"
 */
export function checkFlags(root: Command, args: readonly string[]): void {
  const [first, ...rest] = args;
  const command = root.commands.find((each) => each.name() === first);
  const words = rest.includes("--") ? rest.slice(0, rest.indexOf("--")) : rest;
  if (!command) refuseFlagBeforeCommand(root, first);
  if (!command || words.some((word) => word === "--help" || word === "-h")) return;
  for (let i = 0; i < words.length; i++) {
    const word = words[i] as string;
    if (!/^-[^\d.]/.test(word)) continue;
    const [flag = "", value] = word.split(/=(.*)/s);
    const option = findOption(command, flag);
    if (!option) refuse(command, `unknown option '${flag}'${suggest(flag, listLong(command))}`);
    if (!option.required || value !== undefined || (!word.startsWith("--") && word.length > 2)) continue;
    const next = words[++i];
    if (next !== undefined && !isFlag(command, next)) continue;
    refuse(command, `option '${option.flags}' argument missing${next === undefined ? "" : `: '${next}' follows it`}`);
  }
}

/** The flags that nfc has without a command. */
export const ROOT_FLAGS: readonly string[] = ["--version", "-V", "--help", "-h"];

function refuseFlagBeforeCommand(root: Command, word = ""): void {
  const [flag = ""] = word.split("=");
  if (!flag.startsWith("-") || ROOT_FLAGS.includes(flag)) return;
  const isOfCommand = root.commands.some((command) => isFlag(command, flag));
  const fact = isOfCommand ? ": it belongs behind a command" : suggest(flag, listLong(root));
  refuse(root, `unknown option '${flag}'${fact}`);
}

/** The option of --name or -n; also of -nVALUE, unless that is a long name with a dash too few. */
function findOption(command: Command, flag: string): Option | undefined {
  const exact = command.options.find(({ long, short }) => flag === long || flag === short);
  if (exact || flag.startsWith("--") || isFlag(command, `-${flag}`)) return exact;
  return command.options.find(({ short }) => short !== undefined && flag.startsWith(short));
}

function isFlag(command: Command, word: string): boolean {
  return command.options.some(({ long, short }) => word === long || word === short);
}

function listLong(command: Command): string[] {
  return [...command.options.flatMap(({ long }) => long ?? []), "--help"];
}

/** Makes the options with a list of allowed values name the nearest one. */
export function suggestChoices(command: Command): void {
  for (const option of command.options)
    if (option.argChoices) option.argParser((value: string) => chooseFrom(option.argChoices as string[], value));
}

/** The choice of that name: "q8" is transformers.js's name of int8. */
export function findChoice<Name extends string>(choices: readonly Name[], word: string): Name | undefined {
  const find = (name: string) => choices.find((choice) => choice === name);
  return find(word) ?? (word === "q8" ? find("int8") : undefined);
}

function chooseFrom(choices: readonly string[], value: string): string {
  const found = findChoice(choices, value);
  if (found !== undefined) return found;
  const list = choices.join(", ");
  throw new InvalidArgumentError(`Allowed choices are ${list}${suggest(value, choices)}`);
}

/** `nfc help COMMAND`, which refuses words that are no command. */
export function helpCommand(root: Command): Command {
  return new Command("help")
    .description("Show the help of a command.")
    .argument("[command]")
    .helpOption(false)
    .action((name?: string) => {
      const found = name === undefined ? root : root.commands.find((each) => each.name() === name);
      if (found) return found.help();
      const names = root.commands.map((each) => each.name());
      return refuse(root, `unknown command '${name}'${suggest(name ?? "", names)}`);
    });
}

/** The share of a word's letters that may be wrong in a typo. */
const WRONG = 0.4;

/** " (Did you mean convert?)", or nothing where no candidate is like the word. */
export function suggest(word: string, candidates: readonly string[]): string {
  const plain = (text: string) => text.toLowerCase().replace(/^-+/, "");
  const typed = plain(word);
  const distance = (candidate: string) => {
    const right = plain(candidate);
    if (typed.length >= 3 && (right.startsWith(typed) || typed.startsWith(right))) return 0.5;
    const [begin = ""] = typed.split(/[-_]/);
    // --out-dir means --output, unless something is nearer.
    const edits = countEdits(typed, right);
    return begin.length >= 3 && right.startsWith(begin) ? Math.min(edits, WRONG * typed.length) : edits;
  };
  const [best] = candidates
    .map((candidate) => ({ candidate, edits: distance(candidate) }))
    .filter(({ candidate, edits }) => edits <= WRONG * Math.max(typed.length, plain(candidate).length))
    .sort((a, b) => a.edits - b.edits);
  return best ? ` (Did you mean ${best.candidate}?)` : "";
}

/** Insertions, deletions, replacements and swaps of neighbors that turn one word into the other. */
function countEdits(from: string, to: string): number {
  const rows: number[][] = [Array.from({ length: to.length + 1 }, (_, j) => j)];
  const at = (i: number, j: number) => (rows[i] as number[])[j] as number;
  for (let i = 1; i <= from.length; i++) {
    rows[i] = [i];
    for (let j = 1; j <= to.length; j++) {
      const wrong = from[i - 1] === to[j - 1] ? 0 : 1;
      const isSwap = i > 1 && j > 1 && from[i - 1] === to[j - 2] && from[i - 2] === to[j - 1];
      const swapped = isSwap ? at(i - 2, j - 2) + 1 : Number.POSITIVE_INFINITY;
      (rows[i] as number[])[j] = Math.min(at(i - 1, j) + 1, at(i, j - 1) + 1, at(i - 1, j - 1) + wrong, swapped);
    }
  }
  return at(from.length, to.length);
}
