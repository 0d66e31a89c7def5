// Seeded choices for the fuzzers: an input depends on the seed, the target's name and its number, on nothing else.
import { makeRandom, mixBits } from "../../src/numeric/random.ts";

export class Chance {
  private readonly random: () => number;

  constructor(seed: number, name: string, index: number) {
    let state = mixBits(seed);
    for (const character of name) state = mixBits(state ^ character.charCodeAt(0));
    this.random = makeRandom(state, index);
  }

  /** An integer from 0 to `limit` − 1. */
  below(limit: number): number {
    return Math.floor(this.random() * limit);
  }

  pick<T>(items: readonly T[]): T {
    if (items.length === 0) throw new Error("nothing to pick from");
    return items[this.below(items.length)] as T;
  }

  /** True once in `times`. */
  once(times: number): boolean {
    return this.below(times) === 0;
  }
}
