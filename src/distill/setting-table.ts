// Tables of settings: name, flag, help, default and limits are declared once; types, resolution and flags follow.
import { NfcError } from "../errors.ts";

/** What a number may be. */
export type NumberKind = "positive integer" | "integer from 0" | "positive number" | "number from 0" | "seed";
/** What a value may be: a number, or one of some names. */
type Kind = NumberKind | readonly string[];
type ValueOf<K> = K extends readonly (infer Name)[] ? Name : number;

/** Why a value cannot be, and what to do; null for one that can. */
export type Refusal = readonly [message: string, hint: string] | null;

interface SettingOptions<Value, Context> {
  /** The default as the help shows it, for all commands or by command; "" where the help says it itself. */
  shown?: string | Readonly<Record<string, string>>;
  check?(value: Value, context: Context): Refusal;
  /** Value of the flag without its argument, where that is optional. */
  bare?: Value;
  /** Whether it is for training with a teacher alone. */
  teacher?: boolean;
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

/** Some of the settings; what is undefined keeps its default. */
export type Given<Settings> = { [Name in keyof Settings]?: Settings[Name] | undefined };

/** A default that is no function is what the help shows unless `options` say otherwise. */
export function declare<const K extends Kind, Context = unknown>(
  flag: string | null,
  kind: K,
  help: string,
  value: Setting<K, Context>["default"],
  options: SettingOptions<ValueOf<K>, Context> = {},
): Setting<K, Context> {
  return { flag, kind, help, default: value, ...(typeof value !== "function" && { shown: String(value) }), ...options };
}

/**
 * All settings: what is given, defaults for the rest.
 * @param makeContext what defaults and checks are handed; they may read other settings from `settings`, in any order
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
    const refusal = setting.check?.(settings[name] as never, context);
    if (refusal) throw new NfcError("usage", refusal[0], { hint: refusal[1] });
  }
  return settings;
}
