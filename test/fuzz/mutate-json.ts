// Spoils the values of a JSON text: keys that go or double, other types, huge numbers, depth, names that mean harm.
import type { Chance } from "./chance.ts";

/** A text that is written as it is, such as NaN. */
class Raw {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

export const NAMES: readonly string[] = [
  ...["", "__proto__", "constructor", "toString", "length", "hasOwnProperty", "0", "-1", " "],
  ...["../../etc/passwd", "/etc/passwd", "C:\\x", "a\\..\\b", "a\0b", "\u001b[2J", "\u202e", "\ufeff", "\u2028"],
  ...["\ud83d\ude00", "x".repeat(300), "x".repeat(70_000), "{}", "hf://a/b", "http://127.0.0.1:1/", "(a+)+$", "\n"],
];

const NUMBERS = ["0", "-0", "-1", "1", "0.5", "1e308", "1e999", "-1e999", "1e-320", "NaN", "Infinity", "00", "0x10"];
const INTEGERS = [2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 53 - 1, 2 ** 53, -(2 ** 31), 1e15, 65_535, 65_536, 1e7];
/** Deeper than what parsers of JSON follow by recursion. */
const DEPTHS = [100, 129, 3000, 20_000];

function makeValue(chance: Chance): unknown {
  const depth = chance.pick(DEPTHS);
  const makers: readonly (() => unknown)[] = [
    () => chance.pick([null, true, false, [], {}, [null], [[]], { "": null }]),
    () => new Raw(chance.pick(NUMBERS)),
    () => chance.pick(INTEGERS) + chance.pick([0, 0, 1, -1]),
    () => chance.pick(NAMES),
    () => new Raw(chance.pick(['"\\ud800"', '"\\u0000"', "'a'", "undefined", '"\t"', '"\\x"', "//", ""])),
    () =>
      new Raw(chance.once(2) ? "[".repeat(depth) + "]".repeat(depth) : `${'{"a":'.repeat(depth)}1${"}".repeat(depth)}`),
    () => Array.from({ length: chance.pick([1, 17, 1000]) }, () => chance.pick<unknown>([0, -1, "a", null, 2 ** 53])),
    () => new Raw('{"__proto__":{"type":"x"},"a":1,"a":2}'),
  ];
  // The kinds that files are full of come more often.
  return chance.pick([...makers, makers[1], makers[2], makers[3]] as typeof makers)();
}

/** Ends a key that stands a second time in its object. */
const DOUBLE = "\0double";

type Container = unknown[] | Map<string, unknown>;

/** Objects as maps, so that any key and any order can be written. */
function toMaps(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(toMaps);
  if (typeof value !== "object" || value === null) return value;
  return new Map(Object.entries(value).map(([key, member]) => [key, toMaps(member)]));
}

function collect(value: unknown, found: Container[] = []): Container[] {
  if (!Array.isArray(value) && !(value instanceof Map)) return found;
  found.push(value);
  for (const member of value.values()) collect(member, found);
  return found;
}

function write(value: unknown): string {
  if (value instanceof Raw) return value.text;
  if (Array.isArray(value)) return `[${value.map(write).join(",")}]`;
  if (!(value instanceof Map)) return JSON.stringify(value) ?? "null";
  return `{${[...value].map(([key, member]) => `${JSON.stringify(key.split(DOUBLE, 1)[0])}:${write(member)}`).join(",")}}`;
}

function changeArray(items: unknown[], chance: Chance): void {
  const at = chance.below(items.length + 1);
  const changes = [
    () => items.splice(at, 1),
    () => items.splice(at, 0, makeValue(chance)),
    () => items.splice(at, 1, makeValue(chance)),
    () => items.push(...items.slice(0, 100)),
    () => items.reverse(),
  ];
  chance.pick(changes)();
}

function changeObject(members: Map<string, unknown>, chance: Chance): void {
  const key = members.size === 0 ? chance.pick(NAMES) : chance.pick([...members.keys()]);
  const changes = [
    () => members.delete(key),
    () => members.set(key, makeValue(chance)),
    () => members.set(key, makeValue(chance)),
    () => members.set(chance.pick(NAMES), makeValue(chance)),
    () => members.set(key + DOUBLE, chance.once(2) ? members.get(key) : makeValue(chance)),
    () => {
      const value = members.get(key);
      members.delete(key);
      members.set(chance.pick(NAMES), value);
    },
    () => members.set(key, members.get(chance.pick([...members.keys(), key]))),
  ];
  chance.pick(changes)();
}

/** One to four changes of a JSON text. */
export function mutateJson(text: string, chance: Chance): string {
  if (chance.once(50)) return write(makeValue(chance));
  const root = toMaps(JSON.parse(text));
  for (let left = 1 + chance.below(4); left > 0; left--) {
    const container = chance.pick(collect(root));
    if (Array.isArray(container)) changeArray(container, chance);
    else changeObject(container, chance);
  }
  const written = write(root);
  return chance.once(40) ? chance.pick(["\ufeff", "\0", " ", "//x\n"]) + written : written;
}
