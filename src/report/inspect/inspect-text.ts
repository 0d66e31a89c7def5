// An inspection as plain text for a terminal.
import type { ModelConfig } from "../../model/config.ts";
import { CONSTANT_MEAN, describeExtra, describeHead, hasConstantMean } from "../findings.ts";
import { notes, paragraph, type Table } from "../render/blocks.ts";
import { formatBytes, formatCount, formatMegabytes, formatPercent, formatThousands } from "../render/format.ts";
import { renderText } from "../render/text.ts";
import { makeProvenance } from "../report-blocks.ts";
import { GROUP_NAMES } from "../weigh/header-tensors.ts";
import type { Inspection } from "./inspect.ts";

/** The inspection as lines that end in a newline each. */
export function renderInspection(inspection: Inspection): string {
  return renderText([
    { kind: "table", heading: null, rows: makeFactRows(inspection), align: "l" },
    makeGroupTable(inspection),
    paragraph(describeTying(inspection)),
    notes(listNotes(inspection)),
    ...makeProvenance("model", { ...inspection, notes: [] }),
  ]);
}

function makeFactRows({ source, storage, layout, config, dtypes, head, embedding }: Inspection): string[][] {
  const { prefix, orientation } = layout;
  const names = prefix === "" ? "as in GPT-2" : `GPT-2's after ${JSON.stringify(prefix)}`;
  return [
    ["model", source],
    ["format", `${storage.format}, ${formatCount(storage.tensors, "tensor")}, ${formatBytes(storage.bytes)}`],
    ["files", storage.files.join(", ")],
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
    ...(config.labels ? [["classifies as", config.labels.join(", ")]] : []),
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

function makeGroupTable({ groups, parameters, bytes }: Inspection): Table {
  const rows = [
    ...groups.map(({ group, ...sums }) => {
      const { label } = GROUP_NAMES[group];
      const name = group.startsWith("attention.") ? `attention ${label}` : label;
      return [name, formatThousands(sums.parameters), formatPercent(sums.percent), formatMegabytes(sums.bytes)];
    }),
    ["total", formatThousands(parameters), formatPercent(100), formatMegabytes(bytes)],
  ];
  return { kind: "table", heading: ["Group", "parameters", "%", "MB"], rows, align: "lr", footRows: 1 };
}

function describeTying({ tying }: Inspection): string {
  const amount = `${formatThousands(tying.parameters)} parameters (${formatPercent(tying.percent)}), ${formatBytes(tying.bytes)}`;
  const verb = tying.done ? "Q and K are tied, which saves" : "Tying Q and K would save";
  return `${verb} ${amount}: ${tying.formula}`;
}

function listNotes({ config, head, bytes, parameters, notes: opened, storage }: Inspection): string[] {
  const facts = [describeHead(config, { head, bytes, parameters }), describeExtra(storage.extra, head)];
  return [
    ...facts.filter((fact) => fact !== null),
    ...(hasConstantMean(config.variant) ? [`${config.variant}: ${CONSTANT_MEAN}`] : []),
    ...opened,
  ];
}
