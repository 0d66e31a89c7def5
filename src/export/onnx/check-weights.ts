// Reads the weights of a written ONNX file back and compares every byte: rounded activations hide a wrong row of a matrix.
import { dirname, join } from "node:path";
import { NfcError, throwIfAborted } from "../../errors.ts";
import { readOnnxStructure } from "../../formats/onnx/reader.ts";
import { locateInitializer, type OnnxInitializer } from "../../formats/onnx/structure.ts";
import { pruneGraph, type Value } from "../../graph/ir.ts";
import { ONNX_DATA_TYPE } from "../../graph/ops.ts";
import type { InlineData } from "../../graph/to-onnx.ts";
import { PIECE_BYTES, PositionalFile } from "../../io/positional-file.ts";
import type { PrecisionPlan } from "./precision-plan.ts";

/**
 * The file's header is read by the reader for foreign files, so that names, dtypes, shapes and places are checked too.
 * @throws NfcError "mismatch" naming the weight that is not as planned, "io" where a data file ends before it, "aborted"
 */
export async function checkStoredWeights(
  path: string,
  { graph, data }: Pick<PrecisionPlan, "graph" | "data">,
  signal?: AbortSignal,
): Promise<void> {
  const { initializers } = await readOnnxStructure(path);
  const stored = new Map(initializers.map((initializer) => [initializer.name, initializer]));
  for (const parameter of pruneGraph(graph).parameters) {
    throwIfAborted(signal);
    const initializer = stored.get(parameter.name);
    const expected = data(parameter);
    const place = initializer && locateInitializer(path, initializer);
    if (!place || !isDeclared(initializer, parameter, expected.byteLength))
      throw findDifference(path, parameter, "it is another tensor");
    if (!(await hasBytes(join(dirname(path), place.location), place.offset, expected)))
      throw findDifference(path, parameter, "its bytes differ");
  }
}

function isDeclared({ dtype, dims, byteLength }: OnnxInitializer, parameter: Value, expected: number): boolean {
  return dtype === ONNX_DATA_TYPE[parameter.dtype] && `${dims}` === `${parameter.shape}` && byteLength === expected;
}

/** Whether a file has these bytes from `offset` on. */
async function hasBytes(path: string, offset: number, { byteLength, chunks }: InlineData): Promise<boolean> {
  const file = await PositionalFile.open(path);
  const buffer = new Uint8Array(Math.min(PIECE_BYTES, byteLength));
  let position = offset;
  try {
    for await (const chunk of chunks())
      for (let at = 0; at < chunk.byteLength; at += buffer.byteLength) {
        const expected = chunk.subarray(at, at + buffer.byteLength);
        const piece = buffer.subarray(0, expected.byteLength);
        await file.readInto(piece, position);
        if (Buffer.compare(piece, expected) !== 0) return false;
        position += piece.byteLength;
      }
    return true;
  } finally {
    await file.close();
  }
}

function findDifference(path: string, { name }: Value, fact: string): NfcError {
  return new NfcError("mismatch", `${path}: ${name}: read back, ${fact}`, {
    hint: "try another disk; if it happens there too, report this: the export is wrong",
  });
}
