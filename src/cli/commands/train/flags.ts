// The flags of the training commands: those of the run, and those that the tables of settings declare.
import { type Command, Option } from "commander";
import type { Given, NumberKind, SettingTable, SettingValues } from "../../../distill/resolve-settings.ts";
import { TEXT_SETTINGS, type TrainMode } from "../../../distill/train-settings.ts";
import { NfcError } from "../../../errors.ts";
import { addDeviceFlag, type DeviceFlags } from "../../device.ts";
import {
  addCommonFlags,
  type CommonFlags,
  parseNonNegativeInteger,
  parseNonNegativeNumber,
  parsePositiveInteger,
  parsePositiveNumber,
  parseSeed,
} from "../../options.ts";

/** The flags besides the settings, which `readSettings` reads. */
export interface TrainFlags extends CommonFlags, DeviceFlags {
  output: string;
  data: string[];
  valid?: string[];
  field?: string;
  cache?: string;
  saveEvery?: number;
  resume?: boolean;
  dryRun?: boolean;
  price?: number;
  force?: boolean;
}

/** @throws NfcError "usage" for a price that nothing would be said with */
export function refuseIdlePrice({ price, dryRun }: Pick<TrainFlags, "price" | "dryRun">): void {
  if (price === undefined || dryRun) return;
  throw new NfcError("usage", "--price says what a dry run costs, and this is none", { hint: "add --dry-run" });
}

const OUTPUT_OF_DISTILL = "the model's name with -distilled, here";

/** The flags that training on a task does not use. */
export const TEXT_FLAGS = ["valid", "field", "saveEvery", "cache"];

/** Keeps the settings that fulfil a condition. */
export function selectSettings(
  table: SettingTable,
  isWanted: (name: string, setting: SettingTable[string]) => boolean,
): SettingTable {
  return Object.fromEntries(Object.entries(table).filter(([name, setting]) => isWanted(name, setting)));
}

/** Settings of training on text that need no teacher, and those that need one. */
export const PLAIN_SETTINGS = selectSettings(TEXT_SETTINGS, (_, { teacher = false }) => !teacher);
export const TEACHER_SETTINGS = selectSettings(TEXT_SETTINGS, (_, { teacher = false }) => teacher);

const PARSERS: Readonly<Record<NumberKind, (text: string) => number>> = {
  "positive integer": parsePositiveInteger,
  "integer from 0": parseNonNegativeInteger,
  "positive number": parsePositiveNumber,
  "number from 0": parseNonNegativeNumber,
  seed: parseSeed,
};

/**
 * Adds what all training commands take. `nfc distill` finds an output itself, and asks for text in its own words.
 * @param tasks settings of training on tasks, where the command does that as well
 */
export function addTrainFlags(command: Command, mode: TrainMode, tasks: SettingTable = {}): Command {
  const [data, output] = [
    new Option("--data <paths...>", "training text: files, JSON, .gz, folders, globs; or token ids (.bin)"),
    new Option(
      "-o, --output <folder>",
      `folder to write${mode === "distill" ? ` (default: ${OUTPUT_OF_DISTILL})` : ""}`,
    ),
  ];
  for (const option of [data, output]) command.addOption(option.makeOptionMandatory(mode !== "distill"));
  command
    .option("--valid <paths...>", "held-out text (default: the end of --data)")
    .option("--field <name>", "field of .jsonl lines that holds the text (default: text)");
  addSettingFlags(command, PLAIN_SETTINGS, { mode, tasks })
    .option("--save-every <steps>", "steps between checkpoints (default: 50)", parsePositiveInteger)
    .option("--cache <folder>", "folder of cache files (default: in ~/.cache/nfc)");
  addDeviceFlag(command)
    .option("--resume", "go on with an interrupted run, or extend a finished one by giving more steps")
    .option("--dry-run", "write nothing; measure for ten seconds, and say what the run will take")
    .option("--price <per hour>", "with --dry-run: what this machine costs an hour", parseNonNegativeNumber)
    .option("-f, --force", "replace an existing output, start an unfinished run over");
  return addCommonFlags(command);
}

/**
 * Adds a flag for each setting.
 * @param options `mode` chooses the default that the help shows; settings of the same name in `tasks` with another
 * meaning are explained beside the table's own; `prefix` goes before each help
 */
export function addSettingFlags(
  command: Command,
  table: SettingTable,
  { mode, tasks = {}, prefix = "" }: { mode?: TrainMode; tasks?: SettingTable; prefix?: string } = {},
): Command {
  const describe = ({ help, shown }: SettingTable[string]) => {
    const fallback = typeof shown === "object" ? mode && shown[mode] : shown;
    return fallback ? `${help} (default: ${fallback})` : help;
  };
  for (const [name, setting] of Object.entries(table)) {
    if (setting.flag === null) continue;
    const { [name]: other = setting } = tasks;
    const also = other.help === setting.help ? "" : `; with --task: ${describe(other)}`;
    const option = new Option(setting.flag, `${prefix}${describe(setting)}${also}`);
    const { kind } = other;
    command.addOption(typeof kind === "string" ? option.argParser(PARSERS[kind]) : option.choices(kind));
  }
  return command;
}

/** The settings that flags name; what they do not name is left undefined. */
export function readSettings<Table extends SettingTable>(table: Table, flags: object): Given<SettingValues<Table>> {
  const values = flags as Record<string, unknown>;
  const read = Object.entries(table).map(([name, setting]) => {
    const value = values[nameAttribute(setting)];
    return [name, value === true && setting.bare !== undefined ? setting.bare : value];
  });
  return Object.fromEntries(read) as Given<SettingValues<Table>>;
}

/**
 * @param names of flags besides those of the settings
 * @throws NfcError "usage" where one of the flags is given; `reason` goes on after its name
 */
export function refuseFlags(
  command: Command,
  settings: SettingTable,
  names: readonly string[],
  { reason, hint }: { reason: string; hint: string },
): void {
  const refused = [...Object.values(settings).map(nameAttribute), ...names];
  const given = command.options.find((option) => {
    const name = option.attributeName();
    return refused.includes(name) && command.getOptionValue(name) !== undefined;
  });
  if (given) throw new NfcError("usage", `${given.long} ${reason}`, { hint });
}

/** The key under which commander keeps a setting's flag; "" for a setting without one. */
function nameAttribute({ flag }: SettingTable[string]): string {
  return flag === null ? "" : new Option(flag).attributeName();
}
