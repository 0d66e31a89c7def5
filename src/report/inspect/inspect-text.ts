// An inspection as plain text for a terminal: aligned columns, no colours; names are made harmless.
import type { ModelConfig } from "../../model/config.ts";
import { CONSTANT_MEAN, describeExtra, describeHead, hasConstantMean } from "../findings.ts";
import {
  alignTable,
  escapeControls,
  formatBytes,
  formatCommand,
  formatCount,
  formatMegabytes,
  formatPercent,
  formatThousands,
} from "../render/format.ts";
import { GROUP_LABELS } from "../rows.ts";
import type { Inspection } from "./inspect.ts";

/** The inspection as lines that end in a newline each. */
export function renderInspection(inspection: Inspection): string {
  const blocks = [
    alignTable(makeFactRows(inspection), { align: "l" }),
    renderGroupTable(inspection),
    describeTying(inspection),
    renderNotes(inspection),
    describeProvenance(inspection),
  ];
  return `${blocks
    .filter((lines) => lines.length > 0)
    .map((lines) => lines.join("\n"))
    .join("\n\n")}\n`;
}

function makeFactRows({ source, storage, layout, config, dtypes, head, embedding }: Inspection): string[][] {
  const { prefix, orientation } = layout;
  const names = prefix === "" ? "as in GPT-2" : `GPT-2's after ${escapeControls(JSON.stringify(prefix))}`;
  return [
    ["model", escapeControls(source)],
    ["format", `${storage.format}, ${formatCount(storage.tensors, "tensor")}, ${formatBytes(storage.bytes)}`],
    ["files", storage.files.map(escapeControls).join(", ")],
    ["names", names],
    ["matrices", orientation === "conv1d" ? "[in, out], as in GPT-2" : "[out, in], as in nanoGPT"],
    ["precision", dtypes.map(({ dtype, tensors }) => `${dtype} (${formatCount(tensors, "tensor")})`).join(", ")],
    ["variant", config.variant],
    ...makeConfigRows(config),
    ["embedding", `${formatThousands(embedding.parameters)} parameters, ${formatPercent(embedding.percent)} of all`],
    [
      "head",
      head.storage === "tied" ? "the token embedding, stored once" : `${head.storage}, ${formatBytes(head.bytes)}`,
    ],
    ...(config.labels ? [["classifies as", config.labels.map(escapeControls).join(", ")]] : []),
  ];
}

function makeConfigRows(config: ModelConfig): string[][] {
  const { n_layer, n_head, n_embd, n_inner } = config;
  const scaling = [
    config.scale_attn_weights ? "1/sqrt(D)" : "none",
    ...(config.scale_attn_by_inverse_layer_idx ? ["1/(layer + 1)"] : []),
  ];
  return [
    ["layers", `${n_layer}, ${formatCount(n_head, "head")} of ${formatThousands(n_embd / n_head)} each`],
    ["width", `${formatThousands(n_embd)}, MLP ${formatThousands(n_inner)}`],
    ["positions", formatThousands(config.n_positions)],
    ["vocabulary", formatThousands(config.vocab_size)],
    ["activation", config.activation],
    ["scores scaled", scaling.join(", ")],
    ["norm epsilon", String(config.layer_norm_epsilon)],
    ["biases", config.bias ? "yes" : "none"],
  ];
}

function renderGroupTable({ groups, parameters, bytes }: Inspection): string[] {
  const rows = [
    ["Group", "parameters", "%", "MB"],
    ...groups.map(({ group, ...sums }) => {
      const label = group.startsWith("attention.") ? `attention ${GROUP_LABELS[group]}` : GROUP_LABELS[group];
      return [label, formatThousands(sums.parameters), formatPercent(sums.percent), formatMegabytes(sums.bytes)];
    }),
    ["total", formatThousands(parameters), formatPercent(100), formatMegabytes(bytes)],
  ];
  return alignTable(rows, { align: "lr", rulesBefore: [1, rows.length - 1] });
}

function describeTying({ tying }: Inspection): string[] {
  const amount = `${formatThousands(tying.parameters)} parameters (${formatPercent(tying.percent)}), ${formatBytes(tying.bytes)}`;
  const verb = tying.done ? "Q and K are tied, which saves" : "Tying Q and K would save";
  return [`${verb} ${amount}: ${tying.formula}`];
}

function renderNotes({ config, head, bytes, parameters, notes, storage }: Inspection): string[] {
  const facts = [describeHead(config, { head, bytes, parameters }), describeExtra(storage.extra, head)];
  return [
    ...facts.filter((fact) => fact !== null),
    ...(hasConstantMean(config.variant) ? [`${config.variant}: ${CONSTANT_MEAN}`] : []),
    ...notes.map(escapeControls),
  ].map((line) => `note: ${line}`);
}

function describeProvenance({ provenance }: Inspection): string[] {
  if (provenance === null) return [];
  const { tool, source, command, history } = provenance;
  return [
    `made by ${escapeControls(tool.name)} ${escapeControls(tool.version)} from ${escapeControls(source.path)} (${formatThousands(source.parameters)} parameters)`,
    ...(command.length === 0 ? [] : [`  ${escapeControls(formatCommand(command))}`]),
    ...(history.length === 0 ? [] : [`  then: ${history.map(({ step }) => escapeControls(step)).join(", ")}`]),
  ];
}
