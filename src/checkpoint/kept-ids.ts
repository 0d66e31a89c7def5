// The token ids that a smaller vocabulary keeps of a larger one: in the old order, numbered anew from 0.
import { z } from "zod";
import { NfcError } from "../errors.ts";
import { MAX_VOCAB } from "../model/config.ts";
import { formatRanges } from "../numeric/ranges.ts";
import type { NfcRecord } from "./nfc-record.ts";

export const VOCABULARY_AXIS = "vocabulary";

export class KeptIds {
  /** The old ids by the new ones, ascending. */
  readonly ids: readonly number[];
  private readonly places: ReadonlyMap<number, number>;

  constructor(ids: Iterable<number>) {
    this.ids = [...new Set(ids)].sort((a, b) => a - b);
    this.places = new Map(this.ids.map((id, place) => [id, place]));
  }

  get size(): number {
    return this.ids.length;
  }

  /** The new id; undefined for one that is not kept. */
  find(id: number): number | undefined {
    return this.places.get(id);
  }

  /** As text: "0-256,258,300-310". */
  format(): string {
    return formatRanges(this.ids);
  }
}

/** A cut of the vocabulary as nfc.json has it. */
export interface VocabularyCut {
  /** Rows before the cut. */
  from: number;
  kept: KeptIds;
}

const rows = z.int().positive().max(MAX_VOCAB);
const cutSchema = z.object({ from: rows, to: rows, kept: z.string() });
const RANGE = /^(\d{1,8})(?:-(\d{1,8}))?$/;

/**
 * Which ids of its source a model has kept; null where its vocabulary was not cut.
 * @throws NfcError "invalid-file" for a record whose ids do not hold together
 */
export function readVocabularyCut(
  record: Partial<Pick<NfcRecord, "cuts">> | null,
  source: string,
): VocabularyCut | null {
  const entry = record?.cuts?.find(({ axis }) => axis === VOCABULARY_AXIS);
  if (!entry) return null;
  const parsed = cutSchema.safeParse(entry);
  const kept = parsed.success ? parseKeptIds(parsed.data.kept, parsed.data.from) : null;
  if (!parsed.success || kept?.size !== parsed.data.to)
    throw new NfcError("invalid-file", `${source}: nfc.json does not say which tokens of its source were kept`, {
      hint: "restore nfc.json, or convert the model again",
    });
  return { from: parsed.data.from, kept };
}

/** The ids of ranges that ascend below `limit`; null for anything else. */
function parseKeptIds(text: string, limit: number): KeptIds | null {
  const ids: number[] = [];
  for (const part of text.split(",")) {
    const [, first, last = first] = RANGE.exec(part) ?? [];
    const [from, to] = [Number(first), Number(last)];
    if (first === undefined || from > to || to >= limit || from <= (ids.at(-1) ?? -1)) return null;
    for (let id = from; id <= to; id++) ids.push(id);
  }
  return new KeptIds(ids);
}
