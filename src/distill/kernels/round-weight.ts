// Rounds a weight in WebAssembly memory to its form of export: blocks by a kernel, two at a time, all else as anywhere.
import { countChannels } from "../../graph/passes/quantized-blocks.ts";
import { BlockCodes } from "../../graph/quantize/blocks.ts";
import { findBlocks } from "../../graph/quantize/find-grid.ts";
import { callRounding } from "../../graph/quantize/rounding-kernel.ts";
import { roundWeight, type WeightForm } from "../../model/weight-forms.ts";
import type { Region } from "./memory.ts";

/** The scales and zero points of a weight's blocks, kept from one rounding to the next. */
export interface FixedGrid {
  /** s and z of each block. */
  values: Float32Array;
  /** False until the weight has been rounded, and when its grid is to be chosen anew. */
  known: boolean;
}

/** [blocks, 2], the shape of a form's fixed grid; null for a form without blocks. */
export function shapeGrid(form: WeightForm): readonly [number, number] | null {
  if (form.kind !== "blocks") return null;
  const [channels, inner] = countChannels(form.format);
  return [channels * Math.ceil(inner / form.format.block), 2];
}

/** Weights that are rounded already keep their own grid, which a fit of least squares may miss. */
function findGrid({ values, form, name, grid }: RoundedWeight): void {
  if (form.kind !== "blocks" || !grid || grid.known) return;
  const found = findBlocks(values, { ...form.format, name });
  if (!found) return;
  const codes = new BlockCodes(form.format, found);
  for (let n = 0, at = 0; n < codes.channels; n++)
    for (let b = 0; b < codes.blocks; b++) {
      grid.values[at++] = codes.scale(n, b);
      grid.values[at++] = codes.zero(n, b);
    }
  grid.known = true;
}

/**
 * The same bits as `roundWeight`, unless the grid is fixed.
 * @param values and `into` are arrays of the region, as the grid's are; its shared floats are at least ROUNDING_SCRATCH
 * @throws NfcError as `roundWeight`
 */
export function roundInMemory({ kernels, shared }: Pick<Region, "kernels" | "shared">, weight: RoundedWeight): void {
  const { values, into, form, name, grid = null } = weight;
  if (form.kind !== "blocks") {
    roundWeight(values, form, name, into);
    return;
  }
  findGrid(weight);
  const [channels, inner] = countChannels(form.format);
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
