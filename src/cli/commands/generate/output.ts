// Prints the result of nfc generate: one text as it comes, several whole and in order, or JSON; then the timing.

import { NfcError } from "../../../errors.ts";
import type { DraftSummary } from "../../../inference/generate/draft/pace.ts";
import type { FinishReason, GenerateEvent } from "../../../inference/generate/generate.ts";
import { escapeTerminal } from "../../../io/printable.ts";
import { formatCount, formatPercent, formatThousands } from "../../../report/render/format.ts";

import { type Context, note, type OutputFlags, printResult } from "../../terminal.ts";

interface Written {
  prompt: string;
  promptTokens: number;
  text: string;
  ids: number[];
  finish: FinishReason | null;
}

/** Facts that the JSON holds beside the texts. */
export interface RunFacts {
  model: string;
  precision: string | null;
  seed: number | null;
  loadMs: number;
  draft: DraftSummary | null;
}

export class GenerationOutput {
  private readonly context: Context;
  private readonly flags: OutputFlags & { echo?: boolean };
  private readonly rows: readonly Written[];
  private printed = 0;
  /** Wall-clock times in ms; a text's first token comes with the reading of its prompt. */
  private started = 0;
  private last = 0;
  private firstMs: number | null = null;
  private readonly spent = { reading: 0, writing: 0 };

  constructor(
    context: Context,
    flags: OutputFlags & { echo?: boolean },
    texts: readonly string[],
    prompts: readonly (readonly number[])[],
  ) {
    this.context = context;
    this.flags = flags;
    this.rows = texts.map((prompt, row) => {
      const promptTokens = (prompts[row] as readonly number[]).length;
      return { prompt, promptTokens, text: "", ids: [], finish: null };
    });
  }

  start(): void {
    this.started = this.last = performance.now();
    if (this.streams && this.flags.echo) this.print((this.rows[0] as Written).prompt);
  }

  add({ row, id, text, finish }: GenerateEvent): void {
    const written = this.rows[row] as Written;
    this.clock(id !== null && written.ids.length === 0);
    written.text += text;
    if (id !== null) written.ids.push(id);
    written.finish = finish;
    if (this.streams) this.print(text);
    else if (!this.flags.json) this.printFinished();
  }

  /** @throws NfcError "aborted" when a text was interrupted */
  finish(facts: RunFacts): void {
    const { io } = this.context;
    const interrupted = this.rows.some(({ finish }) => finish === "interrupted");
    if (this.streams && this.rows[0]?.ids.length !== 0) this.print("\n");
    if (this.flags.json && !interrupted) printResult(io, this.flags, this.json(facts), () => "");
    if (!this.flags.json) this.remarks(facts);
    if (interrupted)
      throw new NfcError("aborted", `interrupted after ${formatCount(this.tokens, "token")}`, {
        hint: this.flags.json ? "nothing was written" : "the text so far was written",
      });
  }

  private get streams(): boolean {
    return this.rows.length === 1 && !this.flags.json;
  }

  private get tokens(): number {
    return this.rows.reduce((sum, { ids }) => sum + ids.length, 0);
  }

  private clock(first: boolean): void {
    const now = performance.now();
    this.firstMs ??= now - this.started;
    this.spent[first ? "reading" : "writing"] += now - this.last;
    this.last = now;
  }

  /** Prints the texts whose turn it is, each after a blank line but the first. */
  private printFinished(): void {
    for (let next = this.rows[this.printed]; next?.finish; next = this.rows[this.printed]) {
      this.print(`${this.printed === 0 ? "" : "\n"}${next.prompt}${next.text}\n`);
      this.printed += 1;
    }
  }

  /** A terminal would obey control characters, so they are escaped there. */
  private print(text: string): void {
    const { stdout } = this.context.io;
    const shown = stdout.isTTY ? text.replace(/[^\n\t]+/g, (part) => escapeTerminal(part)) : text;
    if (shown !== "") stdout.write(shown);
  }

  private remarks({ seed, draft }: RunFacts): void {
    const { io } = this.context;
    for (const [i, { finish, ids }] of this.rows.entries())
      if (finish === "positions") {
        const which = this.rows.length === 1 ? "" : `text ${i + 1}: `;
        note(io, this.flags, `${which}the model's positions are full after ${formatCount(ids.length, "token")}`);
      }
    if (this.flags.quiet) return;
    const { tokensPerSecond, firstTokenMs } = this.timing();
    const parts = [formatCount(this.tokens, "token")];
    if (tokensPerSecond !== null) parts.push(`${formatSpeed(tokensPerSecond)} tokens/s`);
    if (firstTokenMs !== null) parts.push(`first after ${firstTokenMs.toFixed(0)} ms`);
    if (seed !== null) parts.push(`seed ${seed}`);
    io.stderr.write(`${parts.join(", ")}\n`);
    if (draft !== null) io.stderr.write(`${describeDraft(draft, tokensPerSecond)}\n`);
  }

  private timing() {
    const begun = this.rows.filter(({ ids }) => ids.length > 0);
    const read = begun.reduce((sum, { promptTokens }) => sum + promptTokens, 0);
    const { reading, writing } = this.spent;
    const perSecond = (tokens: number, ms: number) => (tokens > 0 && ms > 0 ? (1000 * tokens) / ms : null);
    return {
      firstTokenMs: this.firstMs,
      promptTokensPerSecond: perSecond(read, reading),
      tokensPerSecond: perSecond(this.tokens - begun.length, writing),
    };
  }

  private json({ loadMs, draft, ...facts }: RunFacts): object {
    const timing = this.timing();
    const drafted = draft && { ...draft, ...compareSpeeds(draft, timing.tokensPerSecond) };
    return { ...facts, texts: this.rows, loadMs, ...timing, draft: drafted };
  }
}

/** Tokens a second without the draft, and how many times faster it was with it; null where too little was written. */
function compareSpeeds({ plainMs }: DraftSummary, tokensPerSecond: number | null) {
  const plain = plainMs === null ? null : 1000 / plainMs;
  return { plainTokensPerSecond: plain, speedup: plain && tokensPerSecond && tokensPerSecond / plain };
}

/** What the draft gave, and whether it was worth its time. */
function describeDraft(draft: DraftSummary, tokensPerSecond: number | null): string {
  const { steps, tokens, proposed, accepted } = draft;
  if (steps === 0) return "draft: the text ended before it was of use";
  const share = `${formatPercent((100 * accepted) / proposed)} of ${formatCount(proposed, "proposed token")} kept`;
  const parts = [`draft: ${(tokens / steps).toFixed(1)} tokens a step`, share];
  const { plainTokensPerSecond: plain, speedup } = compareSpeeds(draft, tokensPerSecond);
  if (plain === null || speedup === null) return parts.join(", ");
  const without = `${formatSpeed(plain)} tokens/s without it`;
  return `${parts.join(", ")}; ${speedup >= 1 ? `${speedup.toFixed(2)} times as fast` : "slower"} (${without})`;
}

/** One decimal below 10, none above. */
const formatSpeed = (value: number): string => (value < 10 ? value.toFixed(1) : formatThousands(value));
