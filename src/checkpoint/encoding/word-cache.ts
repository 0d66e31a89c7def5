// Keeps the ids of words in tables of integers: found by the word's characters in place, without making a string of them.

/** Units of the longest word that is kept. */
const MAX_LENGTH = 64;
/** Words that are kept: 16 MB of prose have some 100,000. */
const MAX_WORDS = 2 ** 18;
/** Units, and ids, of all that are kept. Pages that nothing was written to take no memory. */
const MAX_UNITS = 2 ** 22;
const MAX_IDS = 2 ** 21;
const SLOTS = 2 * MAX_WORDS;

export class WordCache {
  /** Four integers a slot: hash, first unit, first id, count of ids · 128 + count of units (0 where the slot is free). */
  private readonly slots = new Int32Array(4 * SLOTS);
  private readonly units = new Uint16Array(MAX_UNITS);
  private readonly ids = new Int32Array(MAX_IDS);
  private words = 0;
  private unitCount = 0;
  private idCount = 0;

  /** Puts the ids of the word [start, end) behind `target`. False where it is not known. */
  append(text: Uint16Array, start: number, end: number, target: number[]): boolean {
    if (end - start > MAX_LENGTH) return false;
    const { slots, ids } = this;
    const slot = this.findSlot(text, start, end, hashUnits(text, start, end));
    const counts = slots[slot + 3] as number;
    if (counts === 0) return false;
    const from = slots[slot + 2] as number;
    const to = from + (counts >> 7);
    for (let at = from; at < to; at++) target.push(ids[at] as number);
    return true;
  }

  /** Keeps the ids of a word that is not known. When the tables are full they are emptied: a long text changes its words. */
  keep(text: Uint16Array, start: number, end: number, ids: readonly number[]): void {
    const length = end - start;
    if (length > MAX_LENGTH) return;
    const isFull =
      this.words === MAX_WORDS || this.unitCount + length > MAX_UNITS || this.idCount + ids.length > MAX_IDS;
    if (isFull) this.clear();
    const hash = hashUnits(text, start, end);
    const slot = this.findSlot(text, start, end, hash);
    this.slots.set([hash, this.unitCount, this.idCount, ids.length * 128 + length], slot);
    this.units.set(text.subarray(start, end), this.unitCount);
    this.ids.set(ids, this.idCount);
    this.words++;
    this.unitCount += length;
    this.idCount += ids.length;
  }

  private clear(): void {
    this.slots.fill(0);
    this.words = 0;
    this.unitCount = 0;
    this.idCount = 0;
  }

  /** The slot of a word, or the free one where it belongs. */
  private findSlot(text: Uint16Array, start: number, end: number, hash: number): number {
    const { slots } = this;
    for (let slot = hash & (SLOTS - 1); ; slot = (slot + 1) & (SLOTS - 1)) {
      const at = 4 * slot;
      const counts = slots[at + 3] as number;
      if (counts === 0) return at;
      if (slots[at] === hash && (counts & 127) === end - start && this.holds(slots[at + 1] as number, text, start, end))
        return at;
    }
  }

  private holds(first: number, text: Uint16Array, start: number, end: number): boolean {
    const { units } = this;
    for (let i = start; i < end; i++) if (units[first + i - start] !== text[i]) return false;
    return true;
  }
}

/** FNV-1a over the units, its high bits mixed into the low ones. */
function hashUnits(text: Uint16Array, start: number, end: number): number {
  let hash = 0x811c9dc5;
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ (text[i] as number), 0x01000193);
  return hash ^ (hash >>> 15);
}
