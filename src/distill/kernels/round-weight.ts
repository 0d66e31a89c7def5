// Rounds a weight in WebAssembly memory to its form of export: blocks by a kernel, two at a time, all else as anywhere.
import { listOverhangs } from "../../graph/quantize/block-fit.ts";
import { roundWeight, type WeightForm } from "../../model/weight-forms.ts";
import { OVERHANGS_AT, type Region } from "./memory.ts";

/**
 * The same bits as `roundWeight`.
 * @param values and `into` are arrays of the region, whose shared floats are at least ROUNDING_SCRATCH
 * @throws NfcError as `roundWeight`
 */
export function roundInMemory(
  { kernels, shared }: Pick<Region, "kernels" | "shared">,
  values: Float32Array,
  form: WeightForm,
  name: string,
  into: Float32Array,
): void {
  if (form.kind !== "blocks") {
    roundWeight(values, form, name, into);
    return;
  }
  const { shape, byRow, block, bits, symmetric } = form.format;
  const [channels, inner] = byRow ? shape : ([shape[1], shape[0]] as const);
  const [stepN, stepK] = byRow ? [4 * inner, 4] : [4, 4 * channels];
  const overhangs = listOverhangs(form.format);
  new Float64Array(shared.buffer, shared.byteOffset + OVERHANGS_AT, overhangs.length).set(overhangs);
  const fault = kernels.roundBlocks(
    values.byteOffset,
    into.byteOffset,
    channels,
    inner,
    stepN,
    stepK,
    block,
    2 ** bits - 1,
    symmetric ? 1 : 0,
    overhangs.length,
  );
  if (fault) roundWeight(values, form, name, into); // says what is wrong
}
