// Symbolic dimensions: numbers, or names such as "batch_size" and sums and products of them.

/** A dimension: a size, or the name of a size known only at run time. */
export type Dim = number | string;
export type Shape = readonly Dim[];

/** Formats a shape for messages: `[2, batch_size, 64]`. */
export function formatShape(shape: Shape): string {
  return `[${shape.join(", ")}]`;
}

/** a + b. Names give "a + b", the form in which ONNX tools evaluate dimension names. */
export function addDims(a: Dim, b: Dim): Dim {
  if (typeof a === "number" && typeof b === "number") return a + b;
  if (a === 0) return b;
  if (b === 0) return a;
  return `${a} + ${b}`;
}

/** a · b. */
export function multiplyDims(a: Dim, b: Dim): Dim {
  if (typeof a === "number" && typeof b === "number") return a * b;
  if (a === 1) return b;
  if (b === 1) return a;
  const factor = (dim: Dim) => (typeof dim === "string" && dim.includes(" + ") ? `(${dim})` : dim);
  return `${factor(a)} * ${factor(b)}`;
}

export function isSameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dim, i) => dim === b[i]);
}

/**
 * NumPy broadcasting of two shapes. Equal names match; a name never matches a number other than 1.
 * @throws Error with both shapes when they do not broadcast
 */
export function broadcastShapes(a: Shape, b: Shape, op: string): Dim[] {
  const rank = Math.max(a.length, b.length);
  const result: Dim[] = [];
  for (let i = 0; i < rank; i++) {
    const left = a[a.length - rank + i] ?? 1;
    const right = b[b.length - rank + i] ?? 1;
    if (left !== right && left !== 1 && right !== 1)
      throw new Error(`${op}: shapes ${formatShape(a)} and ${formatShape(b)} do not broadcast`);
    result.push(left === 1 ? right : left);
  }
  return result;
}

/** An axis counted from the end when negative. @throws Error when it is out of range */
export function normalizeAxis(axis: number, shape: Shape, op: string): number {
  const result = axis < 0 ? axis + shape.length : axis;
  if (result < 0 || result >= shape.length) throw new Error(`${op}: axis ${axis} is outside ${formatShape(shape)}`);
  return result;
}

/** The dimension at an axis (negative: from the end). @throws Error when it is out of range */
export function dimAt(shape: Shape, axis: number, op = "dimension"): Dim {
  return shape[normalizeAxis(axis, shape, op)] as Dim;
}
