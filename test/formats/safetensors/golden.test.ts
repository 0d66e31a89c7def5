// Files that the Python library wrote: read whole, compared in a few numbers, and written again byte for byte.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { encodeHeader } from "../../../src/formats/safetensors/header.ts";
import { openSafetensors } from "../../../src/formats/safetensors/reader.ts";
import { writeSafetensors } from "../../../src/formats/safetensors/writer.ts";
import { temporaryFolders } from "../../io/support.ts";

const golden = fileURLToPath(new URL("../../../../shared/golden/", import.meta.url));
const files = existsSync(golden)
  ? [".", "tiny-gpt2"].flatMap((folder) =>
      readdirSync(join(golden, folder))
        .filter((name) => name.endsWith(".safetensors"))
        .map((name) => join(folder, name)),
    )
  : [];

describe.skipIf(!existsSync(golden))("golden safetensors files", () => {
  const temporaryFolder = temporaryFolders();

  it("the golden files are all there", () => {
    expect(files).toHaveLength(7);
  });

  /** First three values and the sum in float64, from numpy. */
  const numbers: [string, string, number[], number[], number][] = [
    [
      "dense.safetensors",
      "mean_logits",
      [2, 32, 211],
      [-1.058802843093872, -0.09315196424722672, -0.18244677782058716],
      -933.8379206296377,
    ],
    [
      "symmetric.safetensors",
      "after3.h.0.attn.c_attn.weight",
      [64, 128],
      [0.1953679323196411, 0.31798097491264343, 0.005237267352640629],
      19.57863105655997,
    ],
    [
      "tiny-gpt2/model.safetensors",
      "transformer.wte.weight",
      [211, 64],
      [0.05038873478770256, -0.004475610330700874, 0.0029674209654331207],
      -12.131142466358142,
    ],
    [
      "tiny-gpt2/expected.safetensors",
      "logits",
      [2, 32, 211],
      [0.027851983904838562, 0.03144148737192154, 0.011634822003543377],
      -150.45154534952235,
    ],
  ];
  for (const [file, name, shape, first, sum] of numbers) {
    it(`a golden file gives numpy's numbers: ${name} of ${file}`, async () => {
      const reader = await openSafetensors(join(golden, file));
      const values = await reader.readF32(name);
      expect(reader.tensors.get(name)?.shape).toEqual(shape);
      expect([...values.subarray(0, 3)]).toEqual(first);
      expect(values.reduce((total, value) => total + value, 0)).toBeCloseTo(sum, 8);
      await reader.close();
    });
  }

  for (const file of files) {
    it(`a golden file is laid out as nfc writes it: ${file}`, async () => {
      const path = join(golden, file);
      const reader = await openSafetensors(path);
      const { bytes } = encodeHeader([...reader.tensors.values()], reader.metadata);
      expect(readFileSync(path).subarray(0, bytes.byteLength).equals(bytes)).toBe(true);
      await reader.close();
    });
  }

  it("tiny-gpt2/model.safetensors is written again byte for byte", async () => {
    const path = join(golden, "tiny-gpt2/model.safetensors");
    const folder = await temporaryFolder();
    const reader = await openSafetensors(path);
    expect({ ...reader.metadata }).toEqual({ format: "pt" });
    const sources = [...reader.tensors.values()].map(({ name, dtype, shape }) => {
      return { name, dtype, shape, chunks: () => reader.chunks(name) };
    });
    await writeSafetensors(folder, sources.reverse(), { metadata: reader.metadata });
    await reader.close();
    expect(readFileSync(join(folder, "model.safetensors")).equals(readFileSync(path))).toBe(true);
  });
});
