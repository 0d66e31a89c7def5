// The flags of nfc convert that cut the vocabulary, and the lines that tell of it.
import type { Command } from "commander";
import type { VocabularySettings } from "../../../convert/vocabulary-choice.ts";
import { NfcError } from "../../../errors.ts";
import { makeNumberParser } from "../../options.ts";

export interface VocabularyFlags {
  vocabFrom?: [string, ...string[]];
  vocabSize?: number;
  field?: string;
}

const parsePercent = makeNumberParser(
  "not a share between 0 % and 100 %",
  (share) => share > 0 && share < 100,
  /^[\d.]+$/,
);
const parseCount = makeNumberParser("not a number of tokens, nor a share such as 50%", (count) => count >= 1);

/** "2048" is a number of tokens, "50%" a share of them, which is returned as a number below 1. */
export function parseVocabularySize(text: string): number {
  return text.endsWith("%") ? parsePercent(text.slice(0, -1)) / 100 : parseCount(text);
}

export function addVocabularyFlags(command: Command): Command {
  return command
    .option("--vocab-from <files...>", "keep only the tokens that this text uses, and those of single bytes")
    .option(
      "--vocab-size <n>",
      "with --vocab-from: tokens to keep at most, or a share such as 50%",
      parseVocabularySize,
    );
}

/** @throws NfcError "usage" for --vocab-size alone */
export function toVocabularySettings({ vocabFrom, vocabSize, field }: VocabularyFlags): VocabularySettings | undefined {
  if (vocabFrom) return { text: vocabFrom, field, size: vocabSize };
  if (vocabSize === undefined) return undefined;
  throw new NfcError("usage", "--vocab-size needs text to choose the tokens by", { hint: "give --vocab-from FILE" });
}
