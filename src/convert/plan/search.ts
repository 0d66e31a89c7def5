// Finds a path from the whole model to small ones: each step is the cut with the least measured loss for what it saves.

/** What is left of each axis that is cut; an axis that is missing is whole. */
export type Cuts = Readonly<Record<string, number>>;

/** What the search looks at of a measured model. */
export interface Point {
  parameters: number;
  /** Mean KL(source ‖ model) of a token, in nats. */
  kl: number;
}

export interface SearchAxis {
  name: string;
  /** What may be left of it, the weakest cut first. */
  values: readonly number[];
}

export interface PathStep<P extends Point> {
  /** The axis that this step cuts, and what is left of it. */
  axis: string;
  value: number;
  /** All cuts so far. */
  cuts: Cuts;
  point: P;
}

export interface SearchOptions<P extends Point> {
  source: P;
  axes: readonly SearchAxis[];
  /** The path ends at the first model of at most so many parameters. */
  floor: number;
  /** Measures a model; asked again for the same cuts, it may answer from memory. `left` estimates the calls after it. */
  measure: (cuts: Cuts, left: number) => Promise<P>;
  /** Told of each step; false ends the path with it. */
  onStep?: ((step: PathStep<P>) => Promise<boolean>) | undefined;
}

/** Differences of the loss below it count as none, in nats: measurements do not tell them apart. */
const LEAST_LOSS = 1e-4;
/** Measurements of a step of the path, before any is known. */
const CALLS_PER_STEP = 2;

/** A stronger cut of one axis, and what it costs for each parameter that it saves. */
interface Move {
  axis: string;
  value: number;
  price: number;
}

/**
 * Measures each axis alone at all of its values, then walks: of each axis the stronger value that was cheapest alone
 * is a candidate, candidates are measured on the model as it is in the order of their price alone, and the first whose
 * measured price is at most what the next one costs alone is taken (as in lazy greedy search, Minoux 1978); where none
 * is, the cheapest.
 */
export async function findPath<P extends Point>(options: SearchOptions<P>): Promise<PathStep<P>[]> {
  return new PathSearch(options).run();
}

class PathSearch<P extends Point> {
  private readonly options: SearchOptions<P>;
  /** The points of single cuts, by axis and value. */
  private readonly alone = new Map<string, Map<number, P>>();
  private readonly steps: PathStep<P>[] = [];
  private calls = 0;

  constructor(options: SearchOptions<P>) {
    this.options = options;
  }

  async run(): Promise<PathStep<P>[]> {
    await this.measureAlone();
    const { source, floor, onStep } = this.options;
    let [cuts, point]: [Cuts, P] = [{}, source];
    while (point.parameters > floor) {
      const step = await this.findStep(cuts, point);
      if (!step) break;
      this.steps.push(step);
      ({ cuts, point } = step);
      if (onStep && !(await onStep(step))) break;
    }
    return this.steps;
  }

  private async measureAlone(): Promise<void> {
    const { axes, measure } = this.options;
    const all = axes.flatMap(({ name, values }) => values.map((value) => [name, value] as const));
    for (const [i, [axis, value]] of all.entries()) {
      const point = await measure({ [axis]: value }, all.length - i - 1 + CALLS_PER_STEP * axes.length);
      this.alone.set(axis, (this.alone.get(axis) ?? new Map()).set(value, point));
    }
  }

  private async findStep(cuts: Cuts, point: P): Promise<PathStep<P> | null> {
    const moves = this.listMoves(cuts);
    let best: (PathStep<P> & { price: number }) | null = null;
    for (const [i, { axis, value }] of moves.entries()) {
      const next = { ...cuts, [axis]: value };
      this.calls++;
      const measured = await this.options.measure(next, this.forecast(cuts, point));
      const price = computePrice(point, measured);
      if (price < (best?.price ?? Number.POSITIVE_INFINITY)) best = { axis, value, cuts: next, point: measured, price };
      if (best && best.price <= (moves[i + 1]?.price ?? 0)) break;
    }
    if (!best) return null;
    const { price, ...step } = best;
    return step;
  }

  /** The cheapest move of each axis by the measurements of the axis alone, the cheapest first. */
  private listMoves(cuts: Cuts): Move[] {
    const moves = this.options.axes.flatMap(({ name: axis, values }) => {
      const now = values.indexOf(cuts[axis] ?? Number.NaN);
      const from = this.alonePoint(axis, cuts[axis]);
      const stronger = values.slice(now + 1).map((value): Move => {
        return { axis, value, price: computePrice(from, this.alonePoint(axis, value)) };
      });
      return findCheapest(stronger);
    });
    return moves.filter(({ price }) => Number.isFinite(price)).sort((a, b) => a.price - b.price);
  }

  private alonePoint(axis: string, value: number | undefined): P {
    return value === undefined ? this.options.source : (this.alone.get(axis)?.get(value) as P);
  }

  /** Calls still to come: the path that the measurements alone foretell, at as many calls a step as there were so far. */
  private forecast(cuts: Cuts, { parameters }: P): number {
    const each = this.steps.length === 0 ? CALLS_PER_STEP : this.calls / this.steps.length;
    let [steps, next, size] = [0, cuts, parameters];
    while (size > this.options.floor) {
      const [move] = this.listMoves(next);
      if (!move) break;
      size -=
        this.alonePoint(move.axis, next[move.axis]).parameters - this.alonePoint(move.axis, move.value).parameters;
      next = { ...next, [move.axis]: move.value };
      steps++;
    }
    return Math.round(steps * each);
  }
}

function findCheapest(moves: readonly Move[]): Move[] {
  const [first, ...others] = moves;
  if (!first) return [];
  return [others.reduce((best, move) => (move.price < best.price ? move : best), first)];
}

/** Loss for each parameter saved; infinite where nothing is saved. */
function computePrice(from: Point, to: Point): number {
  const saved = from.parameters - to.parameters;
  return saved > 0 ? Math.max(LEAST_LOSS, to.kl - from.kl) / saved : Number.POSITIVE_INFINITY;
}
