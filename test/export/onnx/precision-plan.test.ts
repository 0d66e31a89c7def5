// The plan of a file: codes that are known are taken, and what the bytes decode to is the same whole and in pieces.
import { describe, expect, it } from "vitest";
import type { Checkpoint } from "../../../src/checkpoint/checkpoint.ts";
import { planPrecision } from "../../../src/export/onnx/precision-plan.ts";
import { viewBytes } from "../../../src/formats/dtype.ts";
import { pruneGraph } from "../../../src/graph/ir.ts";
import type { BlockMatrix } from "../../../src/graph/quantize/blocks.ts";
import type { Precision } from "../../../src/model/precision.ts";
import { resolveQuantization } from "../../../src/model/quantization.ts";
import { MODEL, opened } from "../../support/fixture.ts";

const plan = (checkpoint: Checkpoint, precision: Precision, known?: Map<string, BlockMatrix>) =>
  planPrecision(checkpoint, precision, {
    noise: { kind: "mean" },
    quantization: resolveQuantization(checkpoint.config.n_embd, [precision]),
    known,
  });

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(Uint8Array.from(chunk));
  return Buffer.concat(parts);
}

describe("the plan of a precision", () => {
  it("q4f16 takes the codes that q4 has chosen, without reading a weight again", async () => {
    await opened(MODEL, async (checkpoint) => {
      const known = new Map<string, BlockMatrix>();
      const first = await plan(checkpoint, "q4", known);
      const read: string[] = [];
      const watched: Checkpoint = {
        ...checkpoint,
        readF32: (name) => {
          read.push(name);
          return checkpoint.readF32(name);
        },
      };
      const second = await plan(watched, "q4f16", known);
      expect(read).toEqual([]);
      expect(known.size).toBeGreaterThan(0);
      const codes = pruneGraph(second.graph).parameters.filter(({ name }) => name.endsWith("/values"));
      expect(codes.length).toBe(known.size);
      for (const parameter of codes)
        expect(await collect(second.data(parameter).chunks())).toEqual(await collect(first.data(parameter).chunks()));
    });
  });

  it.each(["fp16", "int8", "uint8", "q4", "q4f16", "q2"] as const)(
    "the numbers of a %s file are the same as a stream and as arrays",
    async (precision) => {
      await opened(MODEL, async (checkpoint) => {
        const { decoded } = await plan(checkpoint, precision);
        for (const name of decoded.tensors.keys()) {
          const streamed = await collect(decoded.chunks(name));
          expect(streamed.equals(viewBytes(await decoded.readF32(name)))).toBe(true);
        }
      });
    },
  );
});
