// All commands by name and description, which is what the help of nfc shows; a command is loaded when it is called.
import type { Command } from "commander";
import type { Context } from "./terminal.ts";

export interface CommandEntry {
  name: string;
  description: string;
  /** What follows the name in the help, as the command declares it. */
  argument?: string | undefined;
  load(): Promise<(context: Context) => Command>;
}

/** The help lists the commands in this order. */
export const COMMANDS: readonly CommandEntry[] = [
  {
    name: "inspect",
    argument: "<model>",
    description:
      "Show what a checkpoint is: layout, configuration, parameters by group, and what tying Q and K would save.",
    load: async () => (await import("./commands/inspect.ts")).inspectCommand,
  },
  {
    name: "plan",
    argument: "<model>",
    description: "Measure what making a model smaller costs, axis by axis and together: a frontier of sizes.",
    load: async () => (await import("./commands/plan.ts")).planCommand,
  },
  {
    name: "convert",
    argument: "<model>",
    description: "Make a dense GPT-2 checkpoint smaller: attention tied or of lower rank, fewer layers, narrower MLPs.",
    load: async () => (await import("./commands/convert.ts")).convertCommand,
  },
  {
    name: "distill",
    argument: "[model]",
    description: "Train a converted model to predict what its teacher predicts.",
    load: async () => (await import("./commands/distill.ts")).distillCommand,
  },
  {
    name: "finetune",
    argument: "<model>",
    description: "Train a model on your text, or a classifier on a task of GLUE.",
    load: async () => (await import("./commands/finetune.ts")).finetuneCommand,
  },
  {
    name: "pretrain",
    description: "Train a model from random weights, in any variant.",
    load: async () => (await import("./commands/pretrain.ts")).pretrainCommand,
  },
  {
    name: "eval",
    argument: "<model>",
    description: "Measure a model's perplexity on text, and compare it with another model.",
    load: async () => (await import("./commands/eval.ts")).evalCommand,
  },
  {
    name: "glue",
    description: "Fine-tune and score models on tasks of GLUE, as a table beside the paper's.",
    load: async () => (await import("./commands/glue.ts")).glueCommand,
  },
  {
    name: "generate",
    argument: "<model>",
    description: "Continue a text with a model: an export of nfc, or a checkpoint.",
    load: async () => (await import("./commands/generate.ts")).generateCommand,
  },
  {
    name: "export",
    argument: "[model]",
    description: "Write a model as ONNX, as safetensors, as GGUF, or as plain GPT-2.",
    load: async () => (await import("./commands/export.ts")).exportCommand,
  },
  {
    name: "serve",
    argument: "<folder>",
    description: "Try an exported model in the browser.",
    load: async () => (await import("./commands/serve.ts")).serveCommand,
  },
  {
    name: "report",
    argument: "<models...>",
    description: "Compare models: parameters and bytes by group, tie errors, recorded perplexities.",
    load: async () => (await import("./commands/report.ts")).reportCommand,
  },
  {
    name: "check",
    description: "Fail when a model has grown: for CI.",
    load: async () => (await import("./commands/check.ts")).checkCommand,
  },
  {
    name: "devices",
    description: "Show the devices that models run on here: which open, what runs on them, how fast they are.",
    load: async () => (await import("./commands/devices.ts")).devicesCommand,
  },
  {
    name: "demo",
    description: "Convert, distill, evaluate, export, run and report a tiny model that comes with nfc.",
    load: async () => (await import("./commands/demo.ts")).demoCommand,
  },
];
