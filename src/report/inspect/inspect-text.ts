// An inspection as plain text for a terminal.
import type { ModelConfig } from "../../model/config.ts";
import { VARIANT_TRAITS } from "../../model/variants.ts";
import { describeRanks, nameGroup } from "../attention-words.ts";
import { CONSTANT_MEAN, describeExtra, describeHead, hasConstantMean } from "../findings.ts";
import { notes, paragraph, type Table } from "../render/blocks.ts";
import { formatBytes, formatCount, formatMegabytes, formatPercent, formatThousands } from "../render/format.ts";
import { renderText } from "../render/text.ts";
import { makeProvenance } from "../report-blocks.ts";
import type { Inspection } from "./inspect.ts";

/** The inspection as lines that end in a newline each. */
export function renderInspection(inspection: Inspection): string {
  return renderText([
    { kind: "table", heading: null, rows: makeFactRows(inspection), align: "l" },
    makeGroupTable(inspection),
    ...describeSaving(inspection).map((line) => paragraph(line)),
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
  const ranks = describeRanks(config);
  const scaling = [
    config.scale_attn_weights ? "1/sqrt(D)" : "none",
    ...(config.scale_attn_by_inverse_layer_idx ? ["1/(layer + 1)"] : []),
  ];
  return [
    ["layers", `${n_layer}, ${formatCount(n_head, "head")} of ${formatThousands(n_embd / n_head)} each`],
    ...(ranks === null ? [] : [["ranks", ranks]]),
    ["width", `${formatThousands(n_embd)}, MLP ${formatThousands(n_inner)}`],
    ["positions", formatThousands(config.n_positions)],
    ["vocabulary", formatThousands(config.vocab_size)],
    ["activation", config.activation],
    ["scores scaled", scaling.join(", ")],
    ["norm epsilon", String(config.layer_norm_epsilon)],
    ["biases", config.bias ? "yes" : "none"],
  ];
}

function makeGroupTable({ groups, parameters, bytes, config }: Inspection): Table {
  const rows = [
    ...groups.map(({ group, ...sums }) => {
      const label = nameGroup(group, [config.variant]);
      const name = group.startsWith("attention.") ? `attention ${label}` : label;
      return [name, formatThousands(sums.parameters), formatPercent(sums.percent), formatMegabytes(sums.bytes)];
    }),
    ["total", formatThousands(parameters), formatPercent(100), formatMegabytes(bytes)],
  ];
  return { kind: "table", heading: ["Group", "parameters", "%", "MB"], rows, align: "lr", footRows: 1 };
}

/** A line on what tying saves or would save, and one on ranks and forms A. */
function describeSaving({ tying, heads, config }: Inspection): string[] {
  const { paired } = VARIANT_TRAITS[config.variant];
  const lines: string[] = [];
  const add = (what: string, { parameters, bytes, percent, formula }: NonNullable<Inspection["heads"]>) => {
    const amount = `${formatThousands(Math.abs(parameters))} parameters (${formatPercent(Math.abs(percent))})`;
    lines.push(`${what} ${amount}, ${formatBytes(Math.abs(bytes))}: ${formula}`);
  };
  if (tying) {
    const done = paired ? "Q and K are one projection, which saves" : "Q and K are tied, which saves";
    add(tying.done ? done : "Tying Q and K would save", tying);
  }
  const ranks = describeRanks(config) !== null;
  if (heads) add(`${ranks ? "The ranks of the heads" : "The forms A"} ${heads.parameters < 0 ? "add" : "save"}`, heads);
  return lines;
}

function listNotes({ config, head, bytes, parameters, notes: opened, storage }: Inspection): string[] {
  const facts = [describeHead(config, { head, bytes, parameters }), describeExtra(storage.extra, head)];
  return [
    ...facts.filter((fact) => fact !== null),
    ...(hasConstantMean(config.variant) ? [`${config.variant}: ${CONSTANT_MEAN}`] : []),
    ...opened,
  ];
}
