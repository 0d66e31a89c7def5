// Tables of settings declare names, flags, help, defaults and limits; types, values and flags are made from them.
import { NfcError } from "../errors.ts";
import { escapeJson } from "../io/printable.ts";

/** Characters of a wrong value that a message shows. */
const MAX_SHOWN = 60;

export type NumberKind = "positive integer" | "integer from 0" | "positive number" | "number from 0" | "seed";
/** The kind of a value: a number, or one of some names. */
type Kind = NumberKind | readonly string[];
type ValueOf<K> = K extends readonly (infer Name)[] ? Name : number;

/** The reason why a value is refused, and a hint; null for one that is accepted. */
export type Refusal = readonly [message: string, hint: string] | null;

interface SettingOptions<Value, Context> {
  /** The default as the help shows it, for all commands or by command; "" where the help says it itself. */
  shown?: string | Readonly<Record<string, string>> | undefined;
  check?(value: Value, context: Context): Refusal;
  /** Value of the flag without its argument, where that is optional. */
  bare?: Value | undefined;
  /** Whether only training with a teacher uses it. */
  teacher?: boolean | undefined;
}

export interface Setting<K extends Kind = Kind, Context = never> extends SettingOptions<ValueOf<K>, Context> {
  /** The flag with its argument; null for a setting that no flag changes. */
  flag: string | null;
  kind: K;
  help: string;
  default: ValueOf<K> | ((context: Context) => ValueOf<K>);
}

/** Settings by name, in the order in which a run's record has them. */
export type SettingTable = Readonly<Record<string, Setting>>;

/** The values of a table's settings. */
export type SettingValues<Table extends SettingTable> = {
  -readonly [Name in keyof Table]: ValueOf<Table[Name]["kind"]>;
};

/** Some of the settings; undefined ones keep their defaults. */
export type Given<Settings> = { [Name in keyof Settings]?: Settings[Name] | undefined };

/** The help shows a default that is no function, unless `options` say otherwise. */
export function declare<const K extends Kind, Context = unknown>(
  flag: string | null,
  kind: K,
  help: string,
  value: Setting<K, Context>["default"],
  options: SettingOptions<ValueOf<K>, Context> = {},
): Setting<K, Context> {
  return { flag, kind, help, default: value, ...(typeof value !== "function" && { shown: String(value) }), ...options };
}

const NUMBERS: Readonly<Record<NumberKind, (value: number) => boolean>> = {
  "positive integer": (value) => Number.isSafeInteger(value) && value > 0,
  "integer from 0": (value) => Number.isSafeInteger(value) && value >= 0,
  "positive number": (value) => Number.isFinite(value) && value > 0,
  "number from 0": (value) => Number.isFinite(value) && value >= 0,
  seed: (value) => Number.isSafeInteger(value) && value >= 0,
};

/** Flags are checked where they are read; the settings of a finished run come from its nfc.json. */
function checkKind(name: string, value: unknown, { flag, kind, default: fallback }: Setting): Refusal {
  if (value === fallback) return null;
  const fits =
    typeof kind === "string" ? typeof value === "number" && NUMBERS[kind](value) : kind.includes(value as never);
  if (fits) return null;
  const due = typeof kind === "string" ? kind : kind.join(" or ");
  const shown = flag?.split(" ", 1)[0] ?? name;
  return [
    `${shown} is ${escapeJson(value).slice(0, MAX_SHOWN)}, expected: ${due === "seed" ? "integer from 0" : due}`,
    "give another value; those of a finished run stand in its nfc.json",
  ];
}

/**
 * Gives all settings: those that are given, and defaults for the rest.
 * @param makeContext makes the argument of defaults and checks; they may read other settings from `settings`, in any order
 * @throws NfcError "usage" for a value that its check refuses
 */
export function resolveSettings<Table extends SettingTable>(
  table: Table,
  given: Given<SettingValues<Table>>,
  makeContext: (settings: SettingValues<Table>) => unknown,
): SettingValues<Table> {
  const draft = {} as SettingValues<Table>;
  const context = makeContext(draft) as never;
  for (const [name, { default: fallback }] of Object.entries(table))
    Object.defineProperty(draft, name, {
      enumerable: true,
      get: () => given[name] ?? (typeof fallback === "function" ? fallback(context) : fallback),
    });
  const settings = { ...draft };
  for (const [name, setting] of Object.entries(table)) {
    const refusal = checkKind(name, settings[name], setting) ?? setting.check?.(settings[name] as never, context);
    if (refusal) throw new NfcError("usage", refusal[0], { hint: refusal[1] });
  }
  return settings;
}
