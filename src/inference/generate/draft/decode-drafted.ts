// Continues prompts with a draft: a smaller model proposes tokens, and the model tests several of them in one pass.
import type { Tokenizer } from "../../../checkpoint/tokenizer.ts";
import { throwIfAborted } from "../../../errors.ts";
import type { Decoder } from "../decoder.ts";
import type { DecodeOptions, GenerateEvent } from "../generate.ts";
import { checkPrompt } from "../prompt-ids.ts";
import { TextRow } from "../text-row.ts";
import { CachedText } from "./cached-text.ts";
import type { Pace, Settled } from "./pace.ts";
import { type Proposal, SpeculativeRule } from "./rule.ts";

export interface Drafting {
  model: Decoder;
  /** A model with the same tokens, see `checkDraft`. */
  draft: Decoder;
  pace: Pace;
}

/**
 * One event a token, prompt by prompt. Greedy text is that of `decodePrompts`, drawn text is distributed as its own;
 * both but for the rounding of a pass over several tokens.
 * @throws NfcError as `decodePrompts`
 */
export async function* decodeDrafted(
  drafting: Drafting,
  tokenizer: Tokenizer,
  prompts: readonly (readonly number[])[],
  options: DecodeOptions = {},
): AsyncGenerator<GenerateEvent, void, undefined> {
  const { config } = drafting.model;
  for (const [row, prompt] of prompts.entries()) checkPrompt(prompt, config, `prompt ${row + 1}`);
  for (const [row, prompt] of prompts.entries()) {
    const rule = new SpeculativeRule(options, options.seed ?? 0, row);
    const text = new DraftedText(drafting, rule, prompt);
    yield* text.write(new TextRow(row, prompt, tokenizer, config, options), options.signal);
  }
}

/** The text of one prompt while it grows. */
export class DraftedText {
  private readonly model: CachedText;
  private readonly draft: CachedText;
  private readonly pace: Pace;
  private readonly rule: SpeculativeRule;
  private readonly ids: number[];
  private readonly promptLength: number;

  constructor({ model, draft, pace }: Drafting, rule: SpeculativeRule, prompt: readonly number[]) {
    this.model = new CachedText(model);
    this.draft = new CachedText(draft);
    this.pace = pace;
    this.rule = rule;
    this.ids = [...prompt];
    this.promptLength = prompt.length;
  }

  /** Rounds until the row ends: in each, tokens are drafted, the model runs once, and one token or more are settled. */
  async *write(row: TextRow, signal: AbortSignal | undefined): AsyncGenerator<GenerateEvent, void, undefined> {
    throwIfAborted(signal);
    let logits = await this.model.run(this.ids, 1, signal);
    let proposals: Proposal[] = [];
    for (let round = 0; ; round++) {
      const settled = await this.settle(proposals, logits);
      if (round > 0) this.pace.finished(proposals.length, settled);
      for (const id of settled.ids) {
        this.ids.push(id);
        const event = row.push(id);
        yield event;
        if (event.finish !== null) return;
      }
      if (signal?.aborted) {
        yield row.interrupt();
        return;
      }
      proposals = await this.propose(Math.min(this.pace.next(), row.left - 1));
      const drafted = [...this.ids, ...proposals.map(({ id }) => id)];
      const begun = performance.now();
      logits = await this.model.run(drafted, proposals.length + 1);
      this.pace.ran(proposals.length + 1, performance.now() - begun);
    }
  }

  /** `count` tokens after the text, fewer where it leaves the positions of the draft. */
  private async propose(count: number): Promise<Proposal[]> {
    const proposals: Proposal[] = [];
    const ids = [...this.ids];
    while (proposals.length < count && ids.length <= this.draft.positions) {
      const proposal = await this.proposeAfter(ids);
      proposals.push(proposal);
      ids.push(proposal.id);
    }
    return proposals;
  }

  private async proposeAfter(ids: readonly number[]): Promise<Proposal> {
    const begun = performance.now();
    const [logits] = await this.draft.run(ids, 1);
    const { source } = this.draft.decoder;
    const proposal = this.rule.propose(logits as Float32Array, ids, ids.length - this.promptLength, source);
    this.pace.drafted(performance.now() - begun);
    return proposal;
  }

  /** The tokens of a round: proposals as far as they are kept, and one that the model chooses. */
  private async settle(proposals: readonly Proposal[], logits: readonly Float32Array[]): Promise<Settled> {
    const settled: Settled = { ids: [], accepted: 0, ms: 0 };
    const ids = [...this.ids];
    for (const [i, values] of logits.entries()) {
      // Drawn text asks the draft at every place, so that the text of a seed is the same however many are drafted.
      const alone = this.rule.greedy || ids.length > this.draft.positions;
      const proposal = proposals[i] ?? (alone ? null : await this.proposeAfter(ids));
      const begun = performance.now();
      const id = this.rule.settle(values, ids, ids.length - this.promptLength, this.model.decoder.source, proposal);
      settled.ms += performance.now() - begun;
      settled.ids.push(id);
      ids.push(id);
      if (i === proposals.length || id !== proposal?.id) break;
      settled.accepted += 1;
    }
    return settled;
  }
}
