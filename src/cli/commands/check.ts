// nfc check: fails in CI where a model is larger than its limit or baseline allows.
import { appendFile } from "node:fs/promises";
import { Command } from "commander";
import type { CheckResult } from "../../check/check-sizes.ts";
import { NfcError } from "../../errors.ts";
import { type Context, note, type OutputFlags, printResult } from "../terminal.ts";

interface CheckFlags extends OutputFlags {
  config?: string;
  baseline?: string;
  updateBaseline?: boolean;
  requireBaseline?: boolean;
  markdown?: string;
  key: string;
  force?: boolean;
}

const HELP = `
The models are named in nfc.size.json, or under "nfc" in package.json:
  { "models": [{ "name": "int8", "path": "models/onnx/model_quantized.onnx", "limit": "80 MB", "maxGrowth": "1 %" }] }
Only headers are read, but for models with a brotliLimit, which is for what a browser downloads. --update-baseline writes nfc.baseline.json, which belongs into version control.
Exit codes: 0 all as it should be, 1 a model is not, 2 wrong usage or configuration, 3 a model cannot be read.

Examples:
  $ nfc check --update-baseline
  $ nfc check
  $ nfc check --markdown sizes.md --json`;

export function checkCommand(context: Context): Command {
  return new Command("check")
    .option("--config <file>", 'configuration (default: nfc.size.json, else "nfc" in package.json)')
    .option("--baseline <file>", "baseline (default: nfc.baseline.json beside the configuration)")
    .option("--update-baseline", "write what is there as the new baseline")
    .option("--require-baseline", "fail for models that the baseline does not know")
    .option("--markdown <file>", "write the table as Markdown, for a comment")
    .option("--key <name>", "marks that comment, where there are several", "nfc")
    .option("-f, --force", "--update-baseline in CI too")
    .option("--json", "print the result as JSON: an array of models, as size-limit has it")
    .option("-q, --quiet", "no notes")
    .addHelpText("after", HELP)
    .action((flags: CheckFlags) => run(context, flags));
}

async function run(context: Context, flags: CheckFlags): Promise<void> {
  const { checkSizes } = await import("../../check/check-sizes.ts");
  const { renderAnnotations, renderCheckJson, renderCheckMarkdown, renderCheckText } = await import(
    "../../check/check-text.ts"
  );
  const { withIoErrors } = await import("../../io/io-error.ts");
  const { refuseUnmarkedFile } = await import("../../io/marked-file.ts");
  const { writeFileAtomic } = await import("../../io/staging.ts");
  const { io, signal } = context;
  const { config, baseline, updateBaseline = false, requireBaseline = false, markdown, key } = flags;
  if (updateBaseline && io.env.CI && io.env.CI !== "false" && !flags.force)
    throw new NfcError("usage", "--update-baseline in CI would accept whatever has grown", {
      hint: "run it where you work and commit the file, or give --force",
    });
  if (markdown !== undefined) await refuseUnmarkedFile(markdown, "<!-- nfc-size:", "a table of nfc check");
  const result = await checkSizes({
    ...{ folder: ".", config, baseline, updateBaseline, requireBaseline, signal },
  });
  printResult(io, flags, renderCheckJson(result), () => renderCheckText(result));
  if (io.env.GITHUB_ACTIONS) for (const line of renderAnnotations(result)) io.stderr.write(`${line}\n`);
  const { GITHUB_STEP_SUMMARY: summary } = io.env;
  if (markdown !== undefined) await writeFileAtomic(markdown, renderCheckMarkdown(result, key));
  if (summary) await withIoErrors(summary, () => appendFile(summary, renderCheckMarkdown(result, key)));
  if (updateBaseline && !result.updated) note(io, flags, `${result.baseline} is left as it was`);
  if (!result.passed) throw describeFailure(result);
}

function describeFailure({ models, unreadable }: CheckResult): NfcError {
  const failed = models.filter((model) => (unreadable ? model.unreadable : !model.passed)).map(({ name }) => name);
  const more = failed.length > 3 ? ` and ${failed.length - 3} more` : "";
  const names = `${failed.slice(0, 3).join(", ")}${more}`;
  if (unreadable) return new NfcError("unreadable", `cannot be read: ${names}`, { hint: "see above" });
  const grew = models.some((model) => model.grew);
  return new NfcError("regression", `not as it should be: ${names}`, {
    hint: grew ? "see above; where the growth is right: nfc check --update-baseline" : "see above",
  });
}
