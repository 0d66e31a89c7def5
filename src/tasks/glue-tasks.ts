// The tasks of GLUE (arXiv 1804.07461): their files, columns, labels and metrics.
import { NfcError } from "../errors.ts";
import type { MetricName } from "./metrics.ts";

export interface Task {
  /** Name on the command line. */
  name: string;
  /** Name in the paper's tables. */
  title: string;
  /** Columns of the text: one, or a pair. */
  text: readonly [string] | readonly [string, string];
  label: string;
  /** Classes in the order of their ids, as Hugging Face's datasets have them; empty for a regression. */
  classes: readonly string[];
  /** Values of the label column for each class; the ids "0", "1", … unless given. */
  values?: readonly string[] | undefined;
  /** Columns of files without a header. */
  columns?: readonly string[] | undefined;
  /** The first is the task's own. */
  metrics: readonly [MetricName, ...MetricName[]];
  train: string;
  /** Development files, the one that decides first. */
  dev: readonly [string, ...string[]];
}

const FILES = { train: "train.tsv", dev: ["dev.tsv"] } as const;
const ENTAILMENT = ["entailment", "not_entailment"] as const;

export const TASKS: readonly Task[] = [
  {
    name: "mrpc",
    title: "MRPC",
    text: ["#1 String", "#2 String"],
    label: "Quality",
    classes: ["not_equivalent", "equivalent"],
    metrics: ["accuracy", "f1"],
    ...FILES,
  },
  {
    name: "cola",
    title: "CoLA",
    text: ["sentence"],
    label: "label",
    classes: ["unacceptable", "acceptable"],
    columns: ["source", "label", "mark", "sentence"],
    metrics: ["matthews", "accuracy"],
    ...FILES,
  },
  {
    name: "mnli",
    title: "MNLI",
    text: ["sentence1", "sentence2"],
    label: "gold_label",
    classes: ["entailment", "neutral", "contradiction"],
    values: ["entailment", "neutral", "contradiction"],
    metrics: ["accuracy"],
    train: "train.tsv",
    dev: ["dev_matched.tsv", "dev_mismatched.tsv"],
  },
  {
    name: "qqp",
    title: "QQP",
    text: ["question1", "question2"],
    label: "is_duplicate",
    classes: ["not_duplicate", "duplicate"],
    metrics: ["accuracy", "f1"],
    ...FILES,
  },
  {
    name: "rte",
    title: "RTE",
    text: ["sentence1", "sentence2"],
    label: "label",
    classes: ENTAILMENT,
    values: ENTAILMENT,
    metrics: ["accuracy"],
    ...FILES,
  },
  {
    name: "qnli",
    title: "QNLI",
    text: ["question", "sentence"],
    label: "label",
    classes: ENTAILMENT,
    values: ENTAILMENT,
    metrics: ["accuracy"],
    ...FILES,
  },
  {
    name: "sst2",
    title: "SST-2",
    text: ["sentence"],
    label: "label",
    classes: ["negative", "positive"],
    metrics: ["accuracy"],
    ...FILES,
  },
  {
    name: "stsb",
    title: "STS-B",
    text: ["sentence1", "sentence2"],
    label: "score",
    classes: [],
    metrics: ["pearson", "spearman"],
    ...FILES,
  },
  {
    name: "wnli",
    title: "WNLI",
    text: ["sentence1", "sentence2"],
    label: "label",
    classes: ["not_entailment", "entailment"],
    metrics: ["accuracy"],
    ...FILES,
  },
];

/** @throws NfcError "usage" for a name that no task has */
export function findTask(name: string): Task {
  const plain = name.toLowerCase().replace(/[-_]/g, "");
  const task = TASKS.find((each) => each.name === plain);
  if (task) return task;
  throw new NfcError("usage", `no task ${JSON.stringify(name)}`, {
    hint: `known are ${TASKS.map((each) => each.name).join(", ")}`,
  });
}

/** Names of the outputs: the classes, or the one number of a regression. */
export function listOutputs({ classes, label }: Task): readonly string[] {
  return classes.length > 0 ? classes : [label];
}
