// nfc inspect: describes a checkpoint, and says what tying would save.
import { Command } from "commander";
import { withCheckpoint } from "../open-checkpoint.ts";
import { addCommonFlags, addSourceFlags, type CommonFlags, type SourceFlags } from "../options.ts";
import { type Context, printResult } from "../terminal.ts";

export function inspectCommand(context: Context): Command {
  const command = new Command("inspect")
    .argument("<model>", "folder, .safetensors file, shard index, or hf://owner/name[@revision]")
    .addHelpText(
      "after",
      "\nReads headers only.\n\nExamples:\n  $ nfc inspect gpt2/\n  $ nfc inspect hf://openai-community/gpt2 --json",
    );
  return addSourceFlags(addCommonFlags(command)).action(async (model: string, flags: CommonFlags & SourceFlags) => {
    const { inspect } = await import("../../report/inspect/inspect.ts");
    const { renderInspection } = await import("../../report/inspect/inspect-text.ts");
    await withCheckpoint(context, model, flags, async (checkpoint) => {
      const inspection = inspect(checkpoint);
      printResult(context.io, flags, inspection, () => renderInspection(inspection));
    });
  });
}
