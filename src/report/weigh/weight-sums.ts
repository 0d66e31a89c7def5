// Adds up what tensors weigh: bytes and parameters by group, and bytes of matrices by format.
import type { HeaderTensor } from "./header-tensors.ts";

/** Bytes, and weights: null where codes are packed in a way that headers do not explain. */
export interface GroupWeight {
  bytes: number;
  parameters: number | null;
}

export class WeightSums {
  /** In the order in which they came up. */
  readonly groups: Record<string, GroupWeight> = {};
  /** Bytes by format, of tensors that are weights of matrices. */
  readonly dtypes: Record<string, number> = {};

  add(group: string, { bytes, parameters }: GroupWeight): void {
    const before = this.groups[group] ?? { bytes: 0, parameters: 0 };
    this.groups[group] = { bytes: before.bytes + bytes, parameters: sumWeights(before.parameters, parameters) };
  }

  addTensor(tensor: HeaderTensor): void {
    const { group, dtype, dims, bytes } = tensor;
    this.add(group, tensor);
    if (dims.length >= 2) this.dtypes[dtype] = (this.dtypes[dtype] ?? 0) + bytes;
  }

  get parameters(): number | null {
    return Object.values(this.groups).reduce<number | null>(
      (total, { parameters }) => sumWeights(total, parameters),
      0,
    );
  }
}

const sumWeights = (a: number | null, b: number | null) => (a === null || b === null ? null : a + b);

/** The format that most bytes have. */
export function findLargestFormat(dtypes: Readonly<Record<string, number>>): string | null {
  return Object.entries(dtypes).sort(([, a], [, b]) => b - a)[0]?.[0] ?? null;
}
