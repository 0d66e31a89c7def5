// ONNX messages written field by field, also such as no encoder writes, and the reader's structure of them.
import { writeFileSync } from "node:fs";
import protobuf from "protobufjs/light.js";
import { readOnnxStructure } from "../../../src/formats/onnx/reader.ts";
import type { OnnxStructure } from "../../../src/formats/onnx/structure.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

export type Write = (w: protobuf.Writer) => protobuf.Writer;

export const bytes = (write: Write) => write(protobuf.Writer.create()).finish();

/** Key of a field: number and wire type. */
export const key = (id: number, wire: number) => (id << 3) | wire;

/** A function that reads bytes as a file of its own in a temporary folder of this name. */
export function structureReader(folder: string): (content: Uint8Array) => Promise<OnnxStructure> {
  const path = temporaryFolder(folder);
  let count = 0;
  return (content) => {
    const file = path(`${count++ % 8}.onnx`);
    writeFileSync(file, content);
    return readOnnxStructure(file);
  };
}
