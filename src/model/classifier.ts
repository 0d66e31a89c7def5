// GPT-2 as a classifier: the hidden state of each text's last token, times score.weight.
import { NfcError } from "../errors.ts";
import type { Value } from "../graph/ir.ts";
import { gemm } from "../graph/ops.ts";
import { gather } from "../graph/shape-ops.ts";
import type { NoiseMode } from "./attention.ts";
import type { ModelConfig } from "./config.ts";
import { type Gpt2Inputs, gpt2 } from "./gpt2.ts";
import type { ParameterLookup } from "./layers.ts";
import { SCORE } from "./parameters.ts";

export interface ClassifierOutput {
  embedded: Value; // the input of the first block: [B·T, C]
  logits: Value; // [B, labels]
}

/**
 * Logits as Hugging Face's GPT2ForSequenceClassification computes them. Rows may be padded on the right without a mask:
 * attention is causal, so no token sees what follows it.
 * @param last int64 [B]: where each row's last token is among the B·T
 */
export function classifier(
  config: ModelConfig,
  parameters: ParameterLookup,
  inputs: Gpt2Inputs,
  { last, noise }: { last: Value; noise: NoiseMode },
): ClassifierOutput {
  const { embedded, hidden } = gpt2(config, parameters, inputs, noise);
  const pooled = gather(hidden, last); // [B, C]
  return { embedded, logits: gemm(pooled, parameters(SCORE), { transB: true }) };
}

/** Whether two classifiers, or a classifier and a task, have the same classes in the same order. */
export function hasSameLabels(a: readonly string[] | undefined, b: readonly string[]): boolean {
  return a?.length === b.length && a.every((label, id) => label === b[id]);
}

/** @throws NfcError "unsupported" for a classifier, which predicts no tokens */
export function refuseClassifier({ source, config }: { source: string; config: ModelConfig }): void {
  if (!config.labels) return;
  throw new NfcError("unsupported", `${source}: is a classifier (${config.labels.join(", ")}), not a language model`, {
    hint: "name the model that it was made from, or use --task",
  });
}
