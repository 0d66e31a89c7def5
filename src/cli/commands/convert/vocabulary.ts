// The flags of nfc convert that cut the vocabulary, and the lines that tell of it.
import { type Command, InvalidArgumentError } from "commander";
import type { VocabularySettings } from "../../../convert/cuts/vocabulary-choice.ts";
import { NfcError } from "../../../errors.ts";
import { makeNumberParser } from "../../options.ts";
import { readPercent } from "../../percent.ts";

export interface VocabularyFlags {
  vocabFrom?: [string, ...string[]];
  vocabSize?: number;
  field?: string | undefined;
}

const parseCount = makeNumberParser("not a number of tokens, nor a share such as 50%", (count) => count >= 1);

/** "2048" is a number of tokens, "50%" a share of them, which is returned as a number below 1. */
function parseVocabularySize(text: string): number {
  if (!text.endsWith("%")) return parseCount(text);
  const percent = readPercent(text) ?? 0;
  if (percent <= 0 || percent >= 100) throw new InvalidArgumentError("not a share between 0 % and 100 %");
  return percent / 100;
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
