// Rounds a weight in WebAssembly memory to its form of export: blocks by a kernel, two at a time, all else as anywhere.
import { callRounding } from "../../graph/quantize/rounding-kernel.ts";
import { roundWeight, type WeightForm } from "../../model/weight-forms.ts";
import type { Region } from "./memory.ts";

/** The scales and zero points of a weight's blocks, as they were when it was first rounded. */
export interface FixedGrid {
  /** s and z of each block. */
  values: Float32Array;
  /** False until the weight has been rounded. */
  known: boolean;
}

/** Floats of a form's fixed grid; 0 for a form without blocks. */
export function countGridFloats(form: WeightForm): number {
  if (form.kind !== "blocks") return 0;
  const { shape, byRow, block } = form.format;
  const [channels, inner] = byRow ? shape : ([shape[1], shape[0]] as const);
  return 2 * channels * Math.ceil(inner / block);
}

/**
 * The same bits as `roundWeight`, unless the grid is fixed.
 * @param values and `into` are arrays of the region, as the grid's are; its shared floats are at least ROUNDING_SCRATCH
 * @throws NfcError as `roundWeight`
 */
export function roundInMemory(
  { kernels, shared }: Pick<Region, "kernels" | "shared">,
  { values, into, form, name, grid = null }: RoundedWeight,
): void {
  if (form.kind !== "blocks") {
    roundWeight(values, form, name, into);
    return;
  }
  const { shape, byRow } = form.format;
  const [channels, inner] = byRow ? shape : ([shape[1], shape[0]] as const);
  const rounded = callRounding(kernels, shared.buffer, form.format, {
    ...{ source: values.byteOffset, target: into.byteOffset, channels, inner },
    grids: grid ? { at: grid.values.byteOffset, use: grid.known ? "read" : "written" } : undefined,
  });
  if (!rounded) roundWeight(values, form, name, into); // says what is wrong
  if (grid) grid.known = true;
}

export interface RoundedWeight {
  values: Float32Array;
  /** Takes the rounded values. */
  into: Float32Array;
  form: WeightForm;
  name: string;
  grid?: FixedGrid | null | undefined;
}
