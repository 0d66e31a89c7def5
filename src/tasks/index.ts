// The entry point "./tasks": the tasks of GLUE, their files, classifiers and metrics, and the table of models and tasks.

export { loadTokenizer, type Tokenizer } from "../checkpoint/tokenizer.ts";
export { Classifier, type ClassifyOptions, scoreAnswers, type TaskScore } from "./classify.ts";
export { type EncodedExample, encodeExamples } from "./examples.ts";
export { type GlueCell, type GlueScore, readGlueScores } from "./glue/cells.ts";
export { type GlueEntry, type GlueOptions, type GlueRow, makeGlueTable } from "./glue/glue.ts";
export { findTask, TASKS, type Task } from "./glue-tasks.ts";
export { type Answers, computeMetric, type MetricName } from "./metrics.ts";
export { readTaskFile, type TaskData, type TaskExample, type TaskReading } from "./task-file.ts";
export { type FinetuneTaskOptions, type FinetuneTaskResult, finetuneTask } from "./train/finetune-task.ts";
export type { ClassifierSettings } from "./train/settings.ts";
export type { TaskSource } from "./train/task-data.ts";
