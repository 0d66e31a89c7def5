// Where a model comes from: hashes of every weight file, and the record that the next model built on it carries.
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { describe, expect, it } from "vitest";
import { continueRecord, describeSource } from "../../src/checkpoint/provenance.ts";
import { failureOf } from "../support/failure.ts";
import { converted, MODEL, opened } from "../support/fixture.ts";
import { writeCheckpoint } from "../support/make-checkpoint.ts";
import { temporaryFolder } from "../support/temp-folder.ts";

const path = temporaryFolder("provenance");
const sha256 = (file: string) => createHash("sha256").update(readFileSync(file)).digest("hex");

describe("the source of a model", () => {
  it("describeSource hashes every shard", async () => {
    const folder = await writeCheckpoint(path("shards"), { shards: 2 });
    await opened(folder, async (checkpoint) => {
      const source = await describeSource(checkpoint);
      expect(source).toMatchObject({ path: folder, parameters: 2008 });
      expect(source.files).toEqual(
        checkpoint.reader.files.map((file) => ({
          name: basename(file),
          bytes: readFileSync(file).length,
          sha256: sha256(file),
        })),
      );
      expect(source.files).toHaveLength(2);
    });
  });

  it("describeSource stops when its signal fires", async () => {
    const error = await failureOf(() => opened(MODEL, (checkpoint) => describeSource(checkpoint, AbortSignal.abort())));
    expect(error.code).toBe("aborted");
  });
});

describe("the record of the next model", () => {
  it("the record of a model without nfc.json starts with the model's own files", async () => {
    await opened(MODEL, async (checkpoint) => {
      const record = await continueRecord(checkpoint, { step: "export" }, { command: ["nfc", "export"] });
      expect(record).toMatchObject({
        format: "nfc/1",
        variant: "dense",
        tie: null,
        command: ["nfc", "export"],
        history: [{ step: "export" }],
        source: { path: MODEL, files: [{ name: "model.safetensors", sha256: sha256(`${MODEL}/model.safetensors`) }] },
      });
    });
  });

  it("the record of a converted model keeps the tie and the first source, adds a step and drops perplexities", async () => {
    const folder = path("tied");
    const { record: first } = await converted({ output: folder, strategy: "spectral" });
    const measured = [{ file: "a.txt", sha256: "0".repeat(64), tokens: 3, perplexity: 2 }];
    const history = [{ step: "distill", steps: 10 }];
    writeFileSync(`${folder}/nfc.json`, JSON.stringify({ ...first, history, perplexity: measured, notes: ["a note"] }));
    await opened(folder, async (checkpoint) => {
      const record = await continueRecord(checkpoint, { step: "export", onnx: "inline" });
      expect(record).toEqual({
        ...first,
        command: [],
        history: [...history, { step: "export", onnx: "inline" }],
        notes: ["a note"],
      });
      expect(record).not.toHaveProperty("perplexity");
    });
  });
});
