// Plans of tiny checkpoints for the naming tests, with edits to their tensor lists.
import { parseConfig } from "../../src/checkpoint/config-file.ts";
import {
  type NamingPlan,
  type PlanInput,
  planCheckpoint,
  type SourceTensor,
} from "../../src/checkpoint/naming/plan.ts";
import { failureOf } from "./failure.ts";
import { type TinyOptions, tinyHfConfig, tinyTensors } from "./make-checkpoint.ts";

export interface Case extends TinyOptions, Omit<PlanInput, "file" | "tensors" | "config"> {
  /** Raw config.json; null for none; by default the one that fits. */
  raw?: Record<string, unknown> | null;
  edit?: (tensors: SourceTensor[]) => SourceTensor[];
}

/** The plan of a tiny checkpoint. */
export function plan({ raw, edit, ...options }: Case = {}): NamingPlan {
  const config = raw === undefined ? tinyHfConfig(options) : raw;
  const tensors = tinyTensors(options) as unknown as SourceTensor[];
  return planCheckpoint({
    ...options,
    file: "m.safetensors",
    tensors: edit === undefined ? tensors : edit(tensors),
    config: config === null ? null : parseConfig(config, "config.json"),
  });
}

/** The refusal of a tiny checkpoint. */
export const refused = (options: Case) => failureOf(() => plan(options));
/** Edits of a tensor list. */
export const without = (pattern: RegExp) => (tensors: SourceTensor[]) =>
  tensors.filter(({ name }) => !pattern.test(name));
export const adding =
  (...added: [string, number[], SourceTensor["dtype"]?][]) =>
  (tensors: SourceTensor[]): SourceTensor[] => [
    ...tensors,
    ...added.map(([name, shape, dtype = "F32"]) => ({ name, shape, dtype }) as const),
  ];
export const reshaping = (name: string, shape: number[]) => (tensors: SourceTensor[]) =>
  tensors.map((tensor) => (tensor.name === name ? { ...tensor, shape } : tensor));
