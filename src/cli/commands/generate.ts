// nfc generate: continues prompts with an exported model or a checkpoint, and streams the text.
import { randomInt } from "node:crypto";
import { Command, Option } from "commander";
import type { Tokenizer } from "../../checkpoint/tokenizer.ts";
import type { Decoder } from "../../inference/generate/decoder.ts";
import { countRunningBytes } from "../../inference/generate/draft/check-draft.ts";
import { decodeDrafted } from "../../inference/generate/draft/decode-drafted.ts";
import { type DraftSummary, Pace } from "../../inference/generate/draft/pace.ts";
import { type EndTokenSource, readEndTokens } from "../../inference/generate/end-tokens.ts";
import {
  DEFAULT_BATCH_SIZE,
  DEFAULT_NEW_TOKENS,
  type DecodeOptions,
  decodePrompts,
  type GenerateEvent,
} from "../../inference/generate/generate.ts";
import { encodePrompts } from "../../inference/generate/prompt-ids.ts";
import { isGreedy } from "../../inference/generate/sampling.ts";
import { openAll } from "../../io/open-all.ts";
import { timePhase } from "../../io/timings.ts";
import { PRECISIONS, type Precision } from "../../model/precision.ts";
import { addDeviceFlag, type DeviceFlags, requireDevice, resolveDevice } from "../device.ts";
import { withCheckpoint } from "../open-checkpoint.ts";
import {
  addCommonFlags,
  addSourceFlags,
  type CommonFlags,
  makeNumberParser,
  parseNonNegativeInteger,
  parseNonNegativeNumber,
  parsePositiveInteger,
  parsePositiveNumber,
  parseSeed,
  refuseIf,
  type SourceFlags,
  toNoiseMode,
} from "../options.ts";
import { type Context, note } from "../terminal.ts";
import { checkDraftFlags, type DraftFlags, openNamedDraft } from "./generate/draft.ts";
import { GenerationOutput } from "./generate/output.ts";
import { collectOption, type PromptFlags, readPrompts } from "./generate/prompts.ts";

interface GenerateFlags extends CommonFlags, SourceFlags, PromptFlags, DeviceFlags, DraftFlags {
  precision?: Precision;
  maxNewTokens: number;
  temperature?: number;
  topK?: number;
  topP?: number;
  repetitionPenalty?: number;
  seed?: number;
  stop?: string[];
  ignoreEos?: boolean;
  truncate?: boolean;
  echo?: boolean;
  batchSize: number;
  noise?: "mean" | "sample";
}

/** Precisions whose activations are rounded to 8 bits, where the last digit of a sum can tip a rounding. */
const ROUNDED: readonly Precision[] = ["int8", "uint8", "q4"];
const ROUNDED_TEXT =
  "rounds activations to 8 bits: where two tokens are nearly as likely, the text may leave that without --draft";

const HELP = `
Without --prompt, what is piped in is the prompt. Only the continuation is printed, as it comes; with several prompts
each whole text, once it is finished. The timing goes to stderr.
--draft lets a smaller model of the same tokens propose what comes next, and the model test several tokens at once: the
text stays the model's own, greedy or drawn. A line on stderr says whether that was faster.
Without --temperature, --top-k or --top-p the likeliest token is taken each time (greedy), and small models soon repeat
themselves; --temperature 0.8 --top-k 40 is a good start. With one of them tokens are drawn, anew at each run unless
--seed is given.

Examples:
  $ nfc generate out/onnx --precision int8 --prompt "It was" --max-new-tokens 60
  $ nfc generate out/nf --prompt "It was" --temperature 0.8 --top-p 0.95 --seed 1
  $ nfc generate gpt2/ --prompt "It was" --draft out/six-layers
  $ nfc generate out/onnx --prompt "Once" --prompt "The city" --json     # one batch
  $ cat start.txt | nfc generate out/onnx --truncate --stop "The end"`;

export function generateCommand(context: Context): Command {
  const command = new Command("generate")
    .argument("<model>", "exported folder, or checkpoint: folder, .safetensors file, hf://owner/name[@revision]")
    .option("-p, --prompt <text>", "text to continue, - for stdin; may be given several times", collectOption)
    .option("--prompts-file <file>", "a file with a prompt in each line")
    .addOption(
      new Option("--precision <name>", "which file of an export (default: the first it has)").choices(PRECISIONS),
    )
    .option("-n, --max-new-tokens <n>", "tokens to write at most", parsePositiveInteger, DEFAULT_NEW_TOKENS)
    .option(
      "--temperature <t>",
      "draw tokens; below 1 likelier ones still more often, 0 is greedy",
      parseNonNegativeNumber,
    )
    .option("--top-k <k>", "draw from the k likeliest tokens, 0 from all", parseNonNegativeInteger)
    .option("--top-p <p>", "draw from the likeliest tokens that together have probability p", parseShare)
    .option("--repetition-penalty <x>", "above 1: what has been written becomes less likely", parsePositiveNumber)
    .option("--seed <n>", "seed of the draws, 0 to 16777216 (default: another at each run)", parseSeed)
    .option("--stop <text>", "end before this text; may be given several times", collectOption)
    .option("--ignore-eos", "go on after the end-of-text token")
    .option("--truncate", "keep only the end of a prompt that leaves no room for the new tokens")
    .option("--echo", "print the prompt as well")
    .option("--batch-size <n>", "prompts that run as one batch", parsePositiveInteger, DEFAULT_BATCH_SIZE)
    .addOption(
      new Option("--noise <mode>", "a checkpoint's noise (an export has it built in)").choices(["mean", "sample"]),
    )
    .option("--draft <model>", "a smaller model with the same tokens that drafts for this one: checkpoint or export")
    .addOption(
      new Option("--draft-precision <name>", "which file of the draft's export (default: the first it has)").choices(
        PRECISIONS,
      ),
    )
    .option("--draft-tokens <n>", "tokens to draft at a time (default: chosen by what they cost)", parsePositiveInteger)
    .addHelpText("after", HELP);
  return addSourceFlags(addCommonFlags(addDeviceFlag(command))).action((model: string, flags: GenerateFlags) => {
    checkDraftFlags(flags, { batchSizeGiven: command.getOptionValueSource("batchSize") !== "default" });
    return run(context, model, flags);
  });
}

const parseShare = makeNumberParser("not above 0 and at most 1", (value) => value > 0 && value <= 1, /\S/);

/** A model before its weights are loaded. */
interface Source extends EndTokenSource {
  precision: Precision | null;
  /** Bytes of its weights as they run. */
  bytes: number;
  open(): Promise<Decoder>;
}

async function run(context: Context, model: string, flags: GenerateFlags): Promise<void> {
  const { hasOnnxFiles } = await import("../../inference/exported/exported-model.ts");
  const exported = flags.precision !== undefined || (await hasOnnxFiles(model));
  checkFlags(model, flags, exported);
  await requireDevice(flags);
  const prompts = await readPrompts(context, flags);
  const drawn = flags.seed ?? randomInt(2 ** 24);
  if (exported) return write(context, model, flags, await findExport(context, model, flags), prompts, drawn);
  await withCheckpoint(context, model, flags, async (checkpoint, progress) => {
    progress.stop();
    for (const text of checkpoint.notes) note(context.io, flags, text);
    const { Decoder } = await import("../../inference/generate/decoder.ts");
    const noise = toNoiseMode(flags.noise, drawn);
    const device = await resolveDevice(context, flags, checkpoint.config, "run");
    const open = () => Decoder.ofCheckpoint(checkpoint, { noise, device, threads: flags.threads });
    const { folder, config, rawConfig } = checkpoint;
    const bytes = countRunningBytes(config);
    await write(context, model, flags, { folder, config, rawConfig, precision: null, bytes, open }, prompts, drawn);
  });
}

function checkFlags(model: string, flags: GenerateFlags, exported: boolean): void {
  refuseIf(exported && flags.noise, `${model}: an export has its noise built in`, "leave out --noise");
  refuseIf(
    flags.seed !== undefined && isGreedy(flags) && flags.noise !== "sample",
    "--seed has no effect on greedy text",
    "add --temperature, --top-k or --top-p",
  );
  refuseIf(flags.stop?.includes(""), "--stop is empty", "give the text to stop at");
}

async function findExport(context: Context, model: string, flags: GenerateFlags): Promise<Source> {
  const { openExportedFile } = await import("../../inference/exported/exported-model.ts");
  const { Decoder } = await import("../../inference/generate/decoder.ts");
  const { model: exported, file } = await openExportedFile(model, flags.precision);
  const { folder, config, rawConfig } = exported;
  const device = await resolveDevice(context, flags, config, "run");
  const open = () => Decoder.ofFile(file, config, { device, threads: flags.threads });
  return { folder, config, rawConfig, precision: file.precision, bytes: file.bytes, open };
}

async function write(
  context: Context,
  model: string,
  flags: GenerateFlags,
  source: Source,
  texts: readonly string[],
  seed: number,
): Promise<void> {
  const { loadTokenizer } = await import("../../checkpoint/tokenizer.ts");
  const { temperature, topK, topP, repetitionPenalty, maxNewTokens, batchSize, stop } = flags;
  const tokenizer = await timePhase("reading the tokenizer", () => loadTokenizer(source.folder, source.config));
  const { truncate = false } = flags;
  const prompts = encodePrompts(texts, tokenizer, source.config, { truncate, maxNewTokens });
  const options: DecodeOptions = {
    ...{ temperature, topK, topP, repetitionPenalty, maxNewTokens, batchSize, stop, seed },
    end: flags.ignoreEos ? [] : await readEndTokens(source),
    signal: context.signal,
  };
  const started = performance.now();
  const writer = await timePhase("loading the model", () => openWriter(context, model, flags, source));
  try {
    const output = new GenerationOutput(context, flags, texts, prompts);
    const loadMs = performance.now() - started;
    output.start();
    for await (const event of writer.decode(tokenizer, prompts, options)) {
      output.add(event);
      if (!context.io.stdout.writable) break; // the reader has closed its end
    }
    const used = isGreedy(flags) && flags.noise !== "sample" ? null : seed;
    output.finish({ model, precision: source.precision, seed: used, loadMs, draft: writer.summarize() });
  } finally {
    await writer.close();
  }
}

/** An open model that continues prompts, alone or with a draft. */
interface Writer {
  decode(
    tokenizer: Tokenizer,
    prompts: readonly (readonly number[])[],
    options: DecodeOptions,
  ): AsyncGenerator<GenerateEvent, void, undefined>;
  /** Null without a draft. */
  summarize(): DraftSummary | null;
  close(): Promise<unknown>;
}

async function openWriter(context: Context, model: string, flags: GenerateFlags, source: Source): Promise<Writer> {
  const { draft: name } = flags;
  if (name === undefined) {
    const decoder = await source.open();
    const decode: Writer["decode"] = (...texts) => decodePrompts(decoder, ...texts);
    return { decode, summarize: () => null, close: () => decoder.close() };
  }
  const { folder, config, bytes, precision } = source;
  if (precision && ROUNDED.includes(precision)) note(context.io, flags, `${precision} ${ROUNDED_TEXT}`);
  return openAll(async (keep) => {
    const draft = keep(await openNamedDraft(context, name, flags, { source: model, folder, config, bytes }));
    const decoder = await source.open();
    const pace = new Pace({ fixed: flags.draftTokens, greedy: isGreedy(flags) });
    const decode: Writer["decode"] = (...texts) => decodeDrafted({ model: decoder, draft, pace }, ...texts);
    return { decode, summarize: () => pace.summary, close: () => Promise.all([draft.close(), decoder.close()]) };
  });
}
