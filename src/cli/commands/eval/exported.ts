// nfc eval on exported files: measures what each precision costs.

import type { Checkpoint } from "../../../checkpoint/checkpoint.ts";
import { NfcError } from "../../../errors.ts";
import { chooseFile, type ExportedFile, type ExportedModel } from "../../../inference/exported/exported-model.ts";
import type { MeteredScore } from "../../../inference/score/record-perplexity.ts";
import { escapeTerminal } from "../../../io/printable.ts";
import { nameModelFile } from "../../../model/precision.ts";
import { formatMegabytes, formatPercent, formatSignedPercent, formatThousands } from "../../../report/render/format.ts";
import { alignTable } from "../../../report/render/text.ts";

import { resolveDevice } from "../../device.ts";
import { openModel } from "../../open-checkpoint.ts";
import { Progress } from "../../progress.ts";
import { type Context, note, printResult } from "../../terminal.ts";
import { warnOfFewTokens } from "./few-tokens.ts";
import type { TextFlags } from "./flags.ts";

/** A scored file, and its change against the reference. */
type Row = MeteredScore & { file: string; bytes: number; percent: number | null };

interface Result {
  model: string;
  /** "fp32" for the exported file of that precision, or the checkpoint that --against names. */
  reference: string | null;
  referencePerplexity: number | null;
  precisions: Row[];
}

export async function evalExport(context: Context, source: string, flags: TextFlags): Promise<void> {
  if (flags.noise === "sample")
    throw new NfcError("usage", `${source}: --noise is for checkpoints: exported files have theirs in the graph`, {
      hint: "export with --noise sample, and leave the flag out here",
    });
  const { openExportedModel } = await import("../../../inference/exported/exported-model.ts");
  const { matchTokens } = await import("../../../checkpoint/match-tokens.ts");
  const { recordExports } = await import("../../../inference/score/record-perplexity.ts");
  const model = await openExportedModel(source);
  const files = selectFiles(model, flags);
  const progress = await Progress.open(context.io, flags);
  let opened: Checkpoint | undefined;
  try {
    if (flags.against !== undefined) opened = await openModel(context, flags.against, flags, progress);
    const against = opened && (await matchTokens(model, opened));
    const scores = await score(context, model, files, against, flags, progress);
    progress.stop();
    if (flags.record) {
      const recorded = await recordExports(model, flags.text, scores, against);
      if (recorded) note(context.io, flags, `perplexities noted in ${recorded} (--no-record leaves them out)`);
      for (const { tokens } of scores.slice(0, 1)) warnOfFewTokens(context.io, flags, tokens);
    }
    const result = makeResult(model, files, scores, against);
    printResult(context.io, flags, result, () => formatResult(result));
  } finally {
    progress.stop();
    await opened?.close();
  }
}

/** The wanted files, or all, and the fp32 file, which is the reference unless --against names another. */
function selectFiles(model: ExportedModel, { precision, against }: TextFlags): ExportedFile[] {
  const wanted = new Set((precision ?? [...model.files.keys()]).map((name) => chooseFile(model, name)));
  return [...model.files.values()].filter(
    (file) => wanted.has(file) || (file.precision === "fp32" && against === undefined),
  );
}

async function score(
  context: Context,
  model: ExportedModel,
  files: readonly ExportedFile[],
  against: Checkpoint | undefined,
  flags: TextFlags,
  progress: Progress,
): Promise<MeteredScore[]> {
  const { scorePrecisions } = await import("../../../inference/score/precisions.ts");
  const { openTokenStream } = await import("../../../checkpoint/token-stream.ts");
  const { TokenMeter } = await import("../../../checkpoint/token-meter.ts");
  const { text, length, stride, threads, field } = flags;
  const { signal } = context;
  const device = await resolveDevice(context, flags, model.config, "run");
  const meter = await TokenMeter.open(text);
  const stream = await openTokenStream(text, model, { signal, field, onBytes: meter.onBytes, onText: meter.onText });
  const reference = against ?? files.find(({ precision }) => precision === "fp32") ?? null;
  const scores = await scorePrecisions(files, model.config, reference, {
    tokens: () => meter.count(stream()),
    countTokens: meter.estimate,
    onProgress: progress.show,
    ...{ length, stride, device, threads, signal },
  });
  return scores.map((each) => ({ ...each, bitsPerByte: meter.toBitsPerByte(each.nll) }));
}

function makeResult(
  { source }: ExportedModel,
  files: readonly ExportedFile[],
  scores: readonly MeteredScore[],
  against: Checkpoint | undefined,
): Result {
  const fp32 = scores.find(({ precision }) => precision === "fp32");
  const compared = scores.find(({ referencePerplexity }) => referencePerplexity !== null);
  const precisions = scores.map((row, i) => ({
    ...row,
    file: `onnx/${nameModelFile(row.precision)}`,
    bytes: (files[i] as ExportedFile).bytes,
    percent: row.referencePerplexity === null ? null : 100 * (row.perplexity / row.referencePerplexity - 1),
  }));
  return {
    model: source,
    reference: against?.source ?? (fp32 ? "fp32" : null),
    referencePerplexity: compared?.referencePerplexity ?? fp32?.perplexity ?? null,
    precisions,
  };
}

function formatResult({ reference, referencePerplexity, precisions }: Result): string {
  const compared = precisions.some(({ kl }) => kl !== null);
  const rows = precisions.map((row) => [
    row.precision,
    formatMegabytes(row.bytes),
    row.perplexity.toFixed(3),
    ...(compared ? formatComparison(row) : []),
    formatThousands(row.tokensPerSecond),
  ]);
  const other =
    compared && reference !== "fp32"
      ? [[escapeTerminal(reference ?? ""), "", referencePerplexity?.toFixed(3) ?? ""]]
      : [];
  const differences = compared ? ["%", "KL (nats)", "top-1 agreement"] : [];
  const heading = ["precision", "MB", "perplexity", ...differences, "tokens/s"];
  const [{ tokens, windows, length, stride }] = precisions as [Row];
  return [
    ...alignTable([heading, ...other, ...rows], { align: "lr", rulesBefore: [1] }),
    `${formatThousands(tokens)} tokens in ${formatThousands(windows)} windows of ${length}, stride ${stride}`,
  ].join("\n");
}

function formatComparison({ percent, kl, agreement }: Row): string[] {
  if (percent === null || kl === null || agreement === null) return ["", "", ""];
  return [formatSignedPercent(percent), kl.toFixed(4), formatPercent(100 * agreement)];
}
