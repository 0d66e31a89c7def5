// Tables of settings: name, flag, help, default and limits are declared once; types, resolution and flags follow.
import { NfcError } from "../errors.ts";

/** What a number may be. */
export type NumberKind = "positive integer" | "integer from 0" | "positive number" | "number from 0" | "seed";

/** Why a value cannot be, and what to do. */
export type Refusal = readonly [message: string, hint: string];

interface Declaration<Value, Context> {
  /** The flag with its argument; null for a setting that no flag changes. */
  flag: string | null;
  help: string;
  /** The default as the help shows it, for all commands or by command; the help says it itself unless given. */
  shown?: string | Readonly<Record<string, string>>;
  default: Value | ((context: Context) => Value);
  /** Why the value is refused; null for one that is good. */
  check?: (value: Value, context: Context) => Refusal | null;
  /** Whether it is for training with a teacher alone. */
  teacher?: boolean;
}

interface NumberDeclaration<Context> extends Declaration<number, Context> {
  kind: NumberKind;
  /** The value of the flag without its argument, where that is optional. */
  bare?: number;
}

interface ChoiceDeclaration<Context> extends Declaration<string, Context> {
  kind: readonly string[];
}

export type Setting<Context> = NumberDeclaration<Context> | ChoiceDeclaration<Context>;
/** Settings by name, in the order in which a run's record has them. */
export type SettingTable<Context = never> = Readonly<Record<string, Setting<Context>>>;

/** The values of a table's settings. */
export type SettingValues<Table> = {
  -readonly [Name in keyof Table]: Table[Name] extends { kind: readonly (infer Choice)[] } ? Choice : number;
};

/** Some of the settings; what is undefined keeps its default. */
export type Given<Settings> = { [Name in keyof Settings]?: Settings[Name] | undefined };

/**
 * All settings: what is given, defaults for the rest.
 * @param makeContext what defaults and checks are handed. They may read other settings from `settings`, whose order does
 * not matter as long as none depends on itself.
 * @throws NfcError "usage" for a value that its check refuses
 */
export function resolveSettings<Context, Table extends SettingTable<Context>>(
  table: Table & SettingTable<Context>,
  given: Given<SettingValues<Table>>,
  makeContext: (settings: SettingValues<Table>) => Context,
): SettingValues<Table> {
  const entries = Object.entries<Setting<Context>>(table);
  const draft = {} as SettingValues<Table>;
  const context = makeContext(draft);
  for (const [name, { default: fallback }] of entries)
    Object.defineProperty(draft, name, {
      enumerable: true,
      get: () => given[name as keyof Table] ?? (typeof fallback === "function" ? fallback(context) : fallback),
    });
  const settings = { ...draft };
  for (const [name, { check }] of entries) {
    const refusal = (check as Declaration<unknown, Context>["check"])?.(settings[name as keyof Table], context);
    if (refusal) throw new NfcError("usage", refusal[0], { hint: refusal[1] });
  }
  return settings;
}
