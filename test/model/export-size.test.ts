// The computed sizes of exports are those of the files that an export writes.

import { statSync } from "node:fs";
import { expect, it } from "vitest";
import { exportModel } from "../../src/export/export-model.ts";
import { countExportBytes } from "../../src/model/export-size.ts";
import { nameModelFile } from "../../src/model/precision.ts";
import { TEXTLESS as PRECISIONS } from "../support/exported.ts";
import { converted, MODEL, opened } from "../support/fixture.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("export-size");

it.each(["dense", "symmetric"])(
  "the bytes of a %s model in every precision are known from its configuration",
  async (variant) => {
    const folder = variant === "dense" ? MODEL : path(variant);
    if (variant !== "dense") await converted({ output: folder });
    await opened(folder, async (checkpoint) => {
      const output = path(`${variant}-onnx`);
      await exportModel(checkpoint, {
        output,
        onnx: { weights: "inline", noise: { kind: "mean" }, precisions: PRECISIONS },
      });
      const written = PRECISIONS.map((precision) => statSync(`${output}/onnx/${nameModelFile(precision)}`).size);
      expect(PRECISIONS.map((precision) => countExportBytes(checkpoint.config, precision))).toEqual(written);
    });
  },
);
