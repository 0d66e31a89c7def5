// The merges of byte pair encoding: a table of integers from two ids to the rank and the token of their merge.
import { Heap } from "../../numeric/heap.ts";

/** Factor of a rank before a position. */
const SHIFT = 2 ** 26;
/** Symbols of a word up to which looking at all its pairs is faster than a heap of them. */
const MAX_SCANNED = 64;
const NONE = -1;
const NO_RANK = 2 ** 31 - 1;

/** Called with the ids of two neighbors and of the token that they become. */
export type MergeListener = (left: number, right: number, result: number) => void;

export class Merges {
  /** Four integers a slot: left, right, rank, id; left is −1 where the slot is free. */
  private readonly slots: Int32Array;
  private readonly mask: number;
  /** The ids of a short word, and the slots of the pairs that begin at each. */
  private readonly ids = new Int32Array(MAX_SCANNED);
  private readonly pairs = new Int32Array(MAX_SCANNED);

  /** @param count of the pairs that will be added, at most */
  constructor(count: number) {
    const size = 2 ** Math.ceil(Math.log2(2 * count + 2));
    this.slots = new Int32Array(4 * size).fill(NONE);
    this.mask = size - 1;
  }

  /** Adds a pair; one that is there gets the new rank and token. */
  add(left: number, right: number, rank: number, id: number): void {
    this.slots.set([left, right, rank, id], this.findSlot(left, right));
  }

  /** The two ids of every pair. */
  *listPairs(): Generator<readonly [left: number, right: number]> {
    const { slots } = this;
    for (let at = 0; at < slots.length; at += 4)
      if (slots[at] !== NONE) yield [slots[at] as number, slots[at + 1] as number];
  }

  /** Merges neighbors, the lowest rank first and of equal ranks the leftmost, until none is left to merge. */
  merge(symbols: readonly number[], onMerge?: MergeListener): number[] {
    return symbols.length <= MAX_SCANNED ? this.mergeShort(symbols, onMerge) : this.mergeLong(symbols, onMerge);
  }

  /** The slot of a pair, or the free one where it belongs. */
  private findSlot(left: number, right: number): number {
    const { slots, mask } = this;
    const mixed = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
    for (let slot = (mixed ^ (mixed >>> 15)) & mask; ; slot = (slot + 1) & mask) {
      const at = 4 * slot;
      if (slots[at] === NONE || (slots[at] === left && slots[at + 1] === right)) return at;
    }
  }

  /** The slot of a pair that merges; −1 for another one. */
  private find(left: number, right: number): number {
    const at = this.findSlot(left, right);
    return this.slots[at] === NONE ? NONE : at;
  }

  private mergeShort(symbols: readonly number[], onMerge?: MergeListener): number[] {
    const { ids, pairs, slots } = this;
    ids.set(symbols);
    let count = symbols.length;
    for (let i = 0; i + 1 < count; i++) pairs[i] = this.find(ids[i] as number, ids[i + 1] as number);
    for (;;) {
      let best = NONE;
      let lowest = NO_RANK;
      for (let i = 0; i + 1 < count; i++) {
        const pair = pairs[i] as number;
        if (pair === NONE || (slots[pair + 2] as number) >= lowest) continue;
        lowest = slots[pair + 2] as number;
        best = i;
      }
      if (best === NONE) return Array.from(ids.subarray(0, count));
      const id = slots[(pairs[best] as number) + 3] as number;
      onMerge?.(ids[best] as number, ids[best + 1] as number, id);
      ids[best] = id;
      ids.copyWithin(best + 1, best + 2, count);
      pairs.copyWithin(best + 1, best + 2, count);
      count--;
      if (best > 0) pairs[best - 1] = this.find(ids[best - 1] as number, id);
      if (best + 1 < count) pairs[best] = this.find(id, ids[best + 1] as number);
    }
  }

  private mergeLong(symbols: readonly number[], onMerge?: MergeListener): number[] {
    const { slots } = this;
    const count = symbols.length;
    const ids = Int32Array.from(symbols); // −1 once it has gone into its left neighbor
    const next = Int32Array.from(symbols, (_, i) => i + 1);
    const previous = Int32Array.from(symbols, (_, i) => i - 1);
    const heap = new Heap();
    const find = (at: number): number => {
      const right = next[at] as number;
      return at < 0 || right >= count ? NONE : this.find(ids[at] as number, ids[right] as number);
    };
    const offer = (at: number) => {
      const pair = find(at);
      if (pair !== NONE) heap.push((slots[pair + 2] as number) * SHIFT + at);
    };
    for (let at = 0; at + 1 < count; at++) offer(at);
    for (let top = heap.pop(); top !== undefined; top = heap.pop()) {
      const at = top % SHIFT;
      const pair = (ids[at] as number) < 0 ? NONE : find(at);
      if (pair === NONE || slots[pair + 2] !== Math.floor(top / SHIFT)) continue;
      const id = slots[pair + 3] as number;
      const right = next[at] as number;
      const after = next[right] as number;
      onMerge?.(ids[at] as number, ids[right] as number, id);
      ids[at] = id;
      ids[right] = -1;
      next[at] = after;
      if (after < count) previous[after] = at;
      offer(previous[at] as number);
      offer(at);
    }
    return Array.from(ids.filter((id) => id >= 0));
  }
}
