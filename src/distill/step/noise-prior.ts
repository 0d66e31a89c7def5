// The noise prior: β·KL(N(μ, σ²) ‖ N(0, 1)) over all noise parameters of a model, and its gradient.
import { findParameterKind } from "../../model/parameters.ts";
import type { ParameterStore } from "./parameter-store.ts";

/**
 * KL = ½(mean μ² + mean(σ² − 1 − ln σ²)) with σ = e^log_std: the two halves are averaged apart, so that σ counts as
 * much as a mean with 32 values a head.
 */
export class NoisePrior {
  private readonly store: ParameterStore;
  private readonly means: readonly string[];
  private readonly logStds: readonly string[];
  private readonly counts: { mean: number; logStd: number };

  constructor(store: ParameterStore) {
    this.store = store;
    this.means = store.names.filter((name) => findParameterKind(name) === "noise mean");
    this.logStds = store.names.filter((name) => findParameterKind(name) === "noise log std");
    const count = (names: readonly string[]) => names.reduce((sum, name) => sum + store.value(name).length, 0);
    this.counts = { mean: count(this.means), logStd: count(this.logStds) };
  }

  /** KL in nats; 0 for a model without noise. */
  value(): number {
    if (this.counts.logStd === 0) return 0;
    const sum = (names: readonly string[], term: (x: number) => number) =>
      names.reduce((total, name) => this.store.value(name).reduce((inner, x) => inner + term(x), total), 0);
    const mean = sum(this.means, (mu) => mu * mu) / this.counts.mean;
    const spread = sum(this.logStds, (s) => Math.exp(2 * s) - 1 - 2 * s) / this.counts.logStd;
    return (mean + spread) / 2;
  }

  /** total += factor·dKL: dμ = μ/n_μ, dlog_std = (σ² − 1)/n_σ. Frozen parameters are left out. */
  addGradient(factor: number): void {
    if (factor === 0) return;
    const add = (names: readonly string[], term: (x: number) => number) => {
      for (const name of names) {
        const { value, total } = this.store.slot(name);
        for (let i = 0; i < total.length; i++) total[i] = (total[i] as number) + factor * term(value[i] as number);
      }
    };
    add(this.means, (mu) => mu / this.counts.mean);
    add(this.logStds, (s) => (Math.exp(2 * s) - 1) / this.counts.logStd);
  }
}
