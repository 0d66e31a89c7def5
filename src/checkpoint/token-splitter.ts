// Writes token ids for a model that has kept some of the tokens: one that is gone becomes those that it is made of.
import { NfcError } from "../errors.ts";
import { parseJson } from "../io/json.ts";
import { checkDefinition, type Definition } from "./encoding/definition.ts";
import { Pipeline } from "./encoding/pipeline.ts";
import { quote } from "./fields.ts";
import type { KeptIds } from "./kept-ids.ts";

/**
 * What gives the new ids of an old one: its own where it is kept, else those as which the smaller tokenizer encodes the
 * token's string. The bytes of the text stay the same. Its ids are those of the whole text encoded anew, except where
 * the end of a token that is gone merges with what follows it (docs/plan.md).
 * @param definition the tokenizer before the cut
 * @param file tokenizer.json after it
 * @throws NfcError "mismatch" for an id without a token, "unsupported" for a token that its parts do not spell
 */
export function makeTokenSplitter(
  definition: Definition,
  file: string | Uint8Array,
  kept: KeptIds,
): (id: number) => readonly number[] {
  const before = new Pipeline(definition);
  const after = new Pipeline(checkDefinition(parseJson(Buffer.from(file), "tokenizer.json"), definition.file));
  const known = new Map<number, readonly number[]>();
  const split = (id: number): readonly number[] => {
    const place = kept.find(id);
    if (place !== undefined) return [place];
    const token = before.findToken(id);
    if (token === undefined)
      throw new NfcError("mismatch", `${definition.file}: the text has token ${id}, which the tokenizer lacks`, {
        hint: "measure on text of the model's own tokens",
      });
    const parts = after.model.encode(token);
    // Twice, so that what stands between words is compared too.
    if (after.decode([...parts, ...parts]) === before.decode([id, id])) return parts;
    throw new NfcError("unsupported", `${definition.file}: the token ${quote(token)} is not written as its parts are`, {
      hint: "leave out the axis vocab, and give --vocab-from to nfc convert",
    });
  };
  return (id) => {
    const parts = known.get(id) ?? split(id);
    known.set(id, parts);
    return parts;
  };
}
