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

/** Small files of a task in its own format, every column that it has filled: MNLI's many, QQP's ids. */
const HEADERS: Readonly<Record<string, string>> = {
  mnli: "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse sentence1 sentence2 label1 gold_label",
  qqp: "id qid1 qid2 question1 question2 is_duplicate",
  stsb: "index genre filename year old_index source1 source2 sentence1 sentence2 score",
};

/** Writes the files of mnli, qqp or stsb; returns the folder. */
export function writePairs(folder: string, task: "mnli" | "qqp" | "stsb"): string {
  mkdirSync(folder, { recursive: true });
  const header = (HEADERS[task] as string).split(" ");
  const labels =
    task === "mnli"
      ? ["entailment", "neutral", "contradiction"]
      : task === "qqp"
        ? ["0", "1"]
        : ["0.5", "2.75", "5.000"];
  const line = (i: number) => {
    const [first, second] = [PEOPLE[i % 4], PEOPLE[(i * 3 + 1) % 4]] as [string, string];
    return header
      .map((column) => {
        if (/^(sentence1|question1)$/.test(column)) return `${first} keeps her ${THINGS[i % 6]}.`;
        if (/^(sentence2|question2)$/.test(column)) return `${second} keeps "her ${THINGS[(i * 5) % 6]}.`;
        return /label|duplicate|score/.test(column) ? labels[i % labels.length] : String(i);
      })
      .join("\t");
  };
  const file = (from: number, count: number) =>
    `${header.join("\t")}\n${Array.from({ length: count }, (_, i) => line(from + i)).join("\n")}\n`;
  const dev = task === "mnli" ? ["dev_matched.tsv", "dev_mismatched.tsv"] : ["dev.tsv"];
  writeFileSync(`${folder}/train.tsv`, file(0, 60));
  for (const name of dev) writeFileSync(`${folder}/${name}`, file(60, 30));
  return folder;
}
