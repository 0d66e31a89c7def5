// An inspection as plain text for a terminal: aligned columns, no colours; names are made harmless.
import type { ModelConfig } from "../../model/config.ts";
import { CONSTANT_MEAN, extraText, hasConstantMean, headText } from "../findings.ts";
import {
  alignTable,
  commandLine,
  formatBytes,
  formatPercent,
  megabytes,
  plural,
  printable,
  thousands,
} from "../render/format.ts";
import { GROUP_LABELS } from "../rows.ts";
import type { Inspection } from "./inspect.ts";

/** The inspection as lines that end in a newline each. */
export function inspectionText(inspection: Inspection): string {
  const blocks = [
    alignTable(factRows(inspection), { align: "l" }),
    groupTable(inspection),
    tyingLines(inspection),
    noteLines(inspection),
    provenanceLines(inspection),
  ];
  return `${blocks
    .filter((lines) => lines.length > 0)
    .map((lines) => lines.join("\n"))
    .join("\n\n")}\n`;
}

function factRows({ source, storage, layout, config, dtypes, head, embedding }: Inspection): string[][] {
  const { prefix, orientation } = layout;
  const names = prefix === "" ? "as in GPT-2" : `GPT-2's after ${printable(JSON.stringify(prefix))}`;
  return [
    ["model", printable(source)],
    ["format", `${storage.format}, ${plural(storage.tensors, "tensor")}, ${formatBytes(storage.bytes)}`],
    ["files", storage.files.map(printable).join(", ")],
    ["names", names],
    ["matrices", orientation === "conv1d" ? "[in, out], as in GPT-2" : "[out, in], as in nanoGPT"],
    ["precision", dtypes.map(({ dtype, tensors }) => `${dtype} (${plural(tensors, "tensor")})`).join(", ")],
    ["variant", config.variant],
    ...configRows(config),
    ["embedding", `${thousands(embedding.parameters)} parameters, ${formatPercent(embedding.percent)} of all`],
    [
      "head",
      head.storage === "tied" ? "the token embedding, stored once" : `${head.storage}, ${formatBytes(head.bytes)}`,
    ],
    ...(config.labels ? [["classifies as", config.labels.map(printable).join(", ")]] : []),
  ];
}

function configRows(config: ModelConfig): string[][] {
  const { n_layer, n_head, n_embd, n_inner } = config;
  const scaling = [
    config.scale_attn_weights ? "1/sqrt(D)" : "none",
    ...(config.scale_attn_by_inverse_layer_idx ? ["1/(layer + 1)"] : []),
  ];
  return [
    ["layers", `${n_layer}, ${plural(n_head, "head")} of ${thousands(n_embd / n_head)} each`],
    ["width", `${thousands(n_embd)}, MLP ${thousands(n_inner)}`],
    ["positions", thousands(config.n_positions)],
    ["vocabulary", thousands(config.vocab_size)],
    ["activation", config.activation],
    ["scores scaled", scaling.join(", ")],
    ["norm epsilon", String(config.layer_norm_epsilon)],
    ["biases", config.bias ? "yes" : "none"],
  ];
}

function groupTable({ groups, parameters, bytes }: Inspection): string[] {
  const rows = [
    ["Group", "parameters", "%", "MB"],
    ...groups.map(({ group, ...sums }) => {
      const label = group.startsWith("attention.") ? `attention ${GROUP_LABELS[group]}` : GROUP_LABELS[group];
      return [label, thousands(sums.parameters), formatPercent(sums.percent), megabytes(sums.bytes)];
    }),
    ["total", thousands(parameters), formatPercent(100), megabytes(bytes)],
  ];
  return alignTable(rows, { align: "lr", rulesBefore: [1, rows.length - 1] });
}

function tyingLines({ tying }: Inspection): string[] {
  const amount = `${thousands(tying.parameters)} parameters (${formatPercent(tying.percent)}), ${formatBytes(tying.bytes)}`;
  const verb = tying.done ? "Q and K are tied, which saves" : "Tying Q and K would save";
  return [`${verb} ${amount}: ${tying.formula}`];
}

function noteLines({ config, head, bytes, parameters, notes, storage }: Inspection): string[] {
  const facts = [headText(config, { head, bytes, parameters }), extraText(storage.extra, head)];
  return [
    ...facts.filter((fact) => fact !== null),
    ...(hasConstantMean(config.variant) ? [`${config.variant}: ${CONSTANT_MEAN}`] : []),
    ...notes.map(printable),
  ].map((line) => `note: ${line}`);
}

function provenanceLines({ provenance }: Inspection): string[] {
  if (provenance === null) return [];
  const { tool, source, command, history } = provenance;
  return [
    `made by ${printable(tool.name)} ${printable(tool.version)} from ${printable(source.path)} (${thousands(source.parameters)} parameters)`,
    ...(command.length === 0 ? [] : [`  ${printable(commandLine(command))}`]),
    ...(history.length === 0 ? [] : [`  then: ${history.map(({ step }) => printable(step)).join(", ")}`]),
  ];
}
