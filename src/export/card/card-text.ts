// Describes in a model card how a model was made: its attention in words, size, source, tie and training.

import type { NfcRecord } from "../../checkpoint/nfc-record.ts";
import type { ModelConfig } from "../../model/config.ts";
import { countParameters } from "../../model/parameters.ts";
import { describeRounding } from "../../model/quantization.ts";
import { VARIANT_TRAITS, type Variant } from "../../model/variants.ts";
import { describeRanks, findForm } from "../../report/attention-words.ts";
import { listPerplexities } from "../../report/recorded-quality.ts";
import { type Block, type Line, list, paragraph } from "../../report/render/blocks.ts";
import { formatCount, formatPercent, formatThousands } from "../../report/render/format.ts";

/** A paragraph that describes the model, and a list of how it was made. */
export function describeOrigin(config: ModelConfig, record: NfcRecord): Block[] {
  const perplexities = listPerplexities(record).map((entry): Line => {
    const source = entry.source === undefined ? "" : `, the source's ${entry.source.toFixed(2)}`;
    const facts = ` (${formatCount(entry.tokens, "token")}): ${entry.perplexity.toFixed(2)}${source}`;
    return ["Perplexity on ", { code: entry.file }, facts];
  });
  return [
    describeModel(config, record),
    list([
      [
        `Made by ${record.tool.name} ${record.tool.version} (npm package `,
        { code: "noiseformer-compiler" },
        ") from ",
        { code: nameSource(record) },
      ],
      ...describeTie(record, config.variant),
      ...record.history.flatMap(describeTraining),
      ...listRounding(record),
      ...(record.history.at(-1)?.noise === "sample" ? ["The ONNX graph draws the noise anew at each run"] : []),
      ...record.notes,
      ...perplexities,
    ]),
  ];
}

/** hf://owner/name@revision → owner/name, which the Hub links to; null for a path. */
export function parseHubName({ source }: NfcRecord): string | null {
  return /^hf:\/\/([\w.-]+\/[\w.-]+)(@.*)?$/.exec(source.path)?.[1] ?? null;
}

function describeModel(config: ModelConfig, record: NfcRecord): Block {
  const { n_layer, n_head, n_embd, vocab_size, n_positions, variant } = config;
  const ranks = describeRanks(config);
  const parameters = countParameters(config);
  const saved = record.source.parameters - parameters;
  const less =
    saved > 0
      ? `, ${formatThousands(saved)} (${formatPercent((100 * saved) / record.source.parameters)}) fewer than its source`
      : "";
  const does = config.labels ? ` that classifies texts (${config.labels.join(", ")})` : "";
  const size = `${formatThousands(parameters)} parameters${less}: ${formatCount(n_layer, "layer")} of ${formatCount(n_head, "head")}`;
  return paragraph(
    `A GPT-2${does} with ${VARIANT_TRAITS[variant].attention}. ${size}, `,
    { code: "n_embd" },
    ` ${formatThousands(n_embd)}, ${formatThousands(vocab_size)} tokens, ${formatThousands(n_positions)} positions${ranks === null ? "" : `; numbers a head: ${ranks}`}.`,
  );
}

/** The last name of a path is enough, because its folders are those of one machine. */
function nameSource(record: NfcRecord): string {
  const { path } = record.source;
  return parseHubName(record) ?? path.split(/[\\/]/).findLast((part) => part !== "") ?? path;
}

function describeTie({ tie, history }: NfcRecord, variant: Variant): Line[] {
  if (tie === null) return [];
  const { narrow, paired } = VARIANT_TRAITS[findForm(variant, history)];
  const what = narrow ? "Q and K cut to low rank" : paired ? "Q and K made one projection" : "Q and K tied";
  const { calibration } = tie;
  const text = calibration === null ? "" : `, calibrated on ${formatCount(calibration.tokens, "token")} of text`;
  return [[`${what} by the strategy `, { code: tie.strategy }, text]];
}

type Step = NfcRecord["history"][number];

/** One line for a step of training; other steps change no weights and have none. */
function describeTraining(step: Step): string[] {
  const steps = asNumber(step.settings, "steps");
  if (steps === null) return [];
  const tokens = asNumber(step, "tokens");
  const perplexity = asObject(asObject(step, "held_out"), "perplexity");
  const [before, after] = [asNumber(perplexity, "before"), asNumber(perplexity, "after")];
  const held =
    after === null
      ? ""
      : `; perplexity on held-out text ${before === null ? "" : `${before.toFixed(2)} before, `}${after.toFixed(2)} after`;
  const amount = tokens === null ? "" : `, ${formatCount(tokens, "token")}`;
  return [`${step.step}: ${formatCount(steps, "step")}${amount}${held}`];
}

/** What the weights were trained to be rounded to. */
function listRounding({ quantization }: NfcRecord): string[] {
  if (!quantization) return [];
  return [`Trained for ${describeRounding(quantization)}: its weights are that precision's numbers already`];
}

function asObject(from: unknown, key: string): unknown {
  return typeof from === "object" && from !== null ? (from as Record<string, unknown>)[key] : undefined;
}

function asNumber(from: unknown, key: string): number | null {
  const value = asObject(from, key);
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}
