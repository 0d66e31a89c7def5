// Reads GLUE's own TSV files: tabs alone separate, quotes are text, and a line that does not parse is an error.
import { createHash } from "node:crypto";
import { join } from "node:path";
import { NfcError } from "../errors.ts";
import { readTextLines } from "../io/text.ts";
import type { Task } from "./glue-tasks.ts";

export interface TaskExample {
  /** One text, or a pair. */
  texts: readonly string[];
  /** Class id, or the number of a regression. */
  label: number;
}

export interface TaskData {
  /** The file, for messages and reports. */
  name: string;
  examples: TaskExample[];
  /** sha256 over texts and labels. */
  sha256: string;
}

export interface TaskReading {
  /**
   * Called with the numbers of a file's lines that do not parse (QQP's training file has some), which are then left out.
   * Such a line is an error where this is not given.
   */
  onInvalid?: ((file: string, lines: readonly number[]) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/** Most examples of a file; MNLI, the largest, has 392,702. */
const MAX_EXAMPLES = 10_000_000;
/** Invalid lines that are left out even where they outnumber the valid ones. */
const FEW = 100;

/**
 * Reads all examples of a file of `folder`.
 * @throws NfcError "not-found" without the file, "invalid-file" naming the line for one without the columns or with a
 * label that is none, and for a file without labels (GLUE's test files)
 */
export async function readTaskFile(
  folder: string,
  file: string,
  task: Task,
  { onInvalid, signal }: TaskReading = {},
): Promise<TaskData> {
  const path = join(folder, file);
  const hash = createHash("sha256");
  const examples: TaskExample[] = [];
  const invalid: number[] = [];
  let fault: NfcError | null = null;
  let columns: Columns | null = task.columns ? findColumns(task.columns, task, path) : null;
  for await (const { text, number } of readTextLines(path, signal ? { signal } : {})) {
    const cells = text.split("\t");
    if (!columns) {
      columns = findColumns(cells, task, path);
      continue;
    }
    const example = parseExample(cells, columns, task, `${path}: line ${number}`);
    if (example instanceof NfcError) {
      if (!onInvalid) throw example;
      fault ??= example;
      invalid.push(number);
      if (invalid.length > examples.length + FEW) throw fault;
      continue;
    }
    hash.update(JSON.stringify([example.texts, example.label]));
    examples.push(example);
    if (examples.length > MAX_EXAMPLES)
      throw new NfcError("unsupported", `${path}: more than ${MAX_EXAMPLES} examples`, { hint: "split the file" });
  }
  // A file most of whose lines do not parse is taken for one of another kind.
  if (fault && invalid.length > examples.length) throw fault;
  if (examples.length === 0)
    throw new NfcError("invalid-file", `${path}: has no examples`, {
      hint: `give the folder of ${task.title}'s files`,
    });
  if (invalid.length > 0) onInvalid?.(path, invalid);
  return { name: path, examples, sha256: hash.digest("hex") };
}

interface Columns {
  count: number;
  text: readonly number[];
  label: number;
}

function findColumns(header: readonly string[], task: Task, path: string): Columns {
  const at = (name: string): number => {
    const index = header.indexOf(name);
    if (index >= 0) return index;
    const unlabeled = name === task.label ? " (a test file? they have no labels)" : "";
    throw new NfcError("invalid-file", `${path}: line 1: no column ${JSON.stringify(name)}${unlabeled}`, {
      hint: `${task.title} has the columns ${[...task.text, task.label].map((one) => JSON.stringify(one)).join(", ")}`,
    });
  };
  return { count: header.length, text: task.text.map(at), label: at(task.label) };
}

function parseExample(cells: readonly string[], columns: Columns, task: Task, where: string): TaskExample | NfcError {
  if (cells.length !== columns.count)
    return new NfcError("invalid-file", `${where}: ${cells.length} columns, not ${columns.count}`, {
      hint: "mend the line (a tab may be missing, or stand inside a text), or leave such lines out: --skip-invalid",
    });
  const value = cells[columns.label] as string;
  const label = parseLabel(value, task);
  if (label === null)
    return new NfcError("invalid-file", `${where}: the label ${JSON.stringify(value.slice(0, 40))} is none`, {
      hint: `${task.title} has ${task.classes.length > 0 ? listValues(task).join(", ") : "numbers"}; mend the line, or leave such lines out: --skip-invalid`,
    });
  return { texts: columns.text.map((index) => copyText(cells[index] as string)), label };
}

/** Copies a piece of a line, which would keep the file's whole chunk in memory, in MNLI with its parse trees. */
const copyText = (text: string) => Buffer.from(text).toString();

const listValues = ({ values, classes }: Task) => values ?? classes.map((_, id) => String(id));

function parseLabel(value: string, task: Task): number | null {
  if (task.classes.length > 0) {
    const id = listValues(task).indexOf(value);
    return id < 0 ? null : id;
  }
  const number = Number(value);
  return value.trim() === "" || !Number.isFinite(number) ? null : number;
}
