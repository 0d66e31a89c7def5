// A small task in the format of SST-2, which the fixture can learn: whether a sentence is about Anna.
import { mkdirSync, writeFileSync } from "node:fs";

const PEOPLE = ["Anna", "Boris", "Clara", "Dmitri"];
const THINGS = ["lantern", "violin", "basket", "ladder", "anchor", "letter"];
const PLACES = ["tower", "castle", "cellar", "garden", "mill"];

/** Writes train.tsv and dev.tsv; returns the folder. */
export function writeSst2(folder: string, { train = 160, dev = 40 } = {}): string {
  mkdirSync(folder, { recursive: true });
  const line = (i: number) => {
    const person = PEOPLE[(i * 7) % PEOPLE.length] as string;
    const text = `${person} keeps her ${THINGS[(i * 5) % THINGS.length]} in the ${PLACES[(i * 3) % PLACES.length]}.`;
    return `${text}\t${person === "Anna" ? 1 : 0}`;
  };
  const file = (from: number, count: number) =>
    `sentence\tlabel\n${Array.from({ length: count }, (_, i) => line(from + i)).join("\n")}\n`;
  writeFileSync(`${folder}/train.tsv`, file(0, train));
  writeFileSync(`${folder}/dev.tsv`, file(train, dev));
  return folder;
}
