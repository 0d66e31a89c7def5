// Says why a perplexity of almost no text is not noted.
import { LEAST_SCORED_TOKENS } from "../../../checkpoint/nfc-record.ts";
import { formatCount } from "../../../report/render/format.ts";
import { type Io, note, type OutputFlags } from "../../terminal.ts";

export function warnOfFewTokens(io: Io, flags: OutputFlags, tokens: number): void {
  if (tokens >= LEAST_SCORED_TOKENS) return;
  const fact = `${formatCount(tokens, "token")} say nothing about the quality of a model`;
  note(io, flags, `${fact}: no perplexity is noted of under ${LEAST_SCORED_TOKENS}`);
}
