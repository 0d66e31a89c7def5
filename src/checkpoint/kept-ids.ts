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

  /** Those of these ids whose places are kept. */
  select({ ids: places }: KeptIds): KeptIds {
    return new KeptIds(places.map((place) => this.ids[place] as number));
  }

  /** The places of these ids among others; null where one of them is not there. */
  placesIn(others: KeptIds): KeptIds | null {
    const places = this.ids.map((id) => others.find(id));
    return places.includes(undefined) ? null : new KeptIds(places as number[]);
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
 * Which ids of the model before its first such cut a model has kept; null where its vocabulary was not cut.
 * @throws NfcError "invalid-file" for a record whose ids do not hold together
 */
export function readVocabularyCut(
  record: Partial<Pick<NfcRecord, "cuts">> | null,
  source: string,
): VocabularyCut | null {
  let cut: VocabularyCut | null = null;
  for (const entry of record?.cuts ?? []) {
    if (entry.axis !== VOCABULARY_AXIS) continue;
    const next = parseCut(entry);
    if (!next || (cut && next.from !== cut.kept.size))
      throw new NfcError("invalid-file", `${source}: nfc.json does not say which tokens of its source were kept`, {
        hint: "restore nfc.json, or convert the model again",
      });
    cut = cut ? { from: cut.from, kept: cut.kept.select(next.kept) } : next;
  }
  return cut;
}

function parseCut(entry: unknown): VocabularyCut | null {
  const { success, data } = cutSchema.safeParse(entry);
  const kept = success ? parseKeptIds(data.kept, data.from) : null;
  return success && kept?.size === data.to ? { from: data.from, kept } : null;
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
