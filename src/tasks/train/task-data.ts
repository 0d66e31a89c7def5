// The examples that a task trains on and is scored on; the development file is split where there is no other.
import { join } from "node:path";
import { NfcError } from "../../errors.ts";
import { fileExists } from "../../io/exists.ts";
import { makeRandom } from "../../numeric/random.ts";
import type { Task } from "../glue-tasks.ts";
import { readTaskFile, type TaskData, type TaskReading } from "../task-file.ts";

export interface TaskSource extends TaskReading {
  task: Task;
  /** Folder of the task's files. */
  data: string;
  /** Without a training file: this share of the development file's examples is held out, and the rest trained on. */
  splitDev?: number | undefined;
}

export interface TaskParts {
  train: TaskData;
  dev: TaskData;
}

/**
 * @param seed of the split
 * @throws NfcError "usage" for a split beside a training file, or one that leaves a part empty; see `readTaskFile`
 */
export async function readTask({ task, data, splitDev, ...reading }: TaskSource, seed: number): Promise<TaskParts> {
  const dev = await readTaskFile(data, task.dev[0], task, reading);
  if (splitDev === undefined && !fileExists(join(data, task.train)))
    throw new NfcError("not-found", `${join(data, task.train)}: no such file`, {
      hint: `give --split-dev 0.2 to hold a part of ${task.dev[0]} out, and train on the rest`,
    });
  if (splitDev === undefined) return { train: await readTaskFile(data, task.train, task, reading), dev };
  if (fileExists(join(data, task.train)))
    throw new NfcError("usage", `${join(data, task.train)} is there: nothing has to be split`, {
      hint: "leave out --split-dev, or move the file away",
    });
  const random = makeRandom(seed, 0);
  const parts: { train: TaskData["examples"]; dev: TaskData["examples"] } = { train: [], dev: [] };
  for (const example of dev.examples) parts[random() < splitDev ? "dev" : "train"].push(example);
  const makePart = (part: "train" | "dev", purpose: string): TaskData => {
    if (parts[part].length === 0)
      throw new NfcError("usage", `--split-dev ${splitDev} leaves no examples ${purpose}`, {
        hint: "give a share between 0 and 1, such as 0.2",
      });
    const name = `${join(data, task.dev[0])} (${part} part)`;
    return { name, examples: parts[part], sha256: `${dev.sha256} ${part} ${splitDev} ${seed}` };
  };
  return { train: makePart("train", "to train on"), dev: makePart("dev", "to score on") };
}
