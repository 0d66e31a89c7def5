// GGUF exports: tensors, sizes and tokenizer as llama.cpp wants them, what is refused, and llama.cpp's own losses.
import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, expect, it } from "vitest";
import { findModelFiles } from "../../../src/check/model-files.ts";
import { loadTokenizer } from "../../../src/checkpoint/tokenizer.ts";
import { type ExportOptions, exportModel } from "../../../src/export/export-model.ts";
import { decodeFloats } from "../../../src/formats/dtype.ts";
import { computeLogits } from "../../../src/inference/layerwise.ts";
import { failureOf } from "../../support/failure.ts";
import { converted, MODEL, opened, TEXT } from "../../support/fixture.ts";
import { askLlama, findLlama, readGguf } from "../../support/gguf.ts";
import { tinyHfConfig, writeCheckpoint } from "../../support/make-checkpoint.ts";
import { formOf } from "../../support/narrow-models.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("gguf");
let count = 0;
const fresh = (name: string) => path(`${name}-${count++}`);
const ALL = ["f16", "q8_0", "q4_0"] as const;
const llama = await findLlama();

async function written(model: string, options: Partial<ExportOptions> = {}): Promise<string> {
  const output = fresh("out");
  await opened(model, (checkpoint) => exportModel(checkpoint, { output, gguf: ALL, ...options }));
  return output;
}

describe("a GGUF file", () => {
  it("holds the sizes, the tokenizer and the matrices by row of a plain GPT-2", async () => {
    const { metadata, tensors } = readGguf(join(await written(MODEL), "model-f16.gguf"));
    expect(Object.fromEntries(metadata)).toMatchObject({
      "general.architecture": "gpt2",
      "gpt2.block_count": 2,
      "gpt2.context_length": 64,
      "gpt2.embedding_length": 64,
      "gpt2.feed_forward_length": 256,
      "gpt2.attention.head_count": 4,
      "tokenizer.ggml.model": "gpt2",
      "tokenizer.ggml.pre": "gpt-2",
      "tokenizer.ggml.eos_token_id": 0,
      "tokenizer.ggml.bos_token_id": 0,
    });
    const tokens = metadata.get("tokenizer.ggml.tokens") as string[];
    const kinds = metadata.get("tokenizer.ggml.token_type") as number[];
    expect([tokens.length, tokens[0], kinds[0], kinds[49]]).toEqual([384, "<|endoftext|>", 3, 1]);
    expect((metadata.get("tokenizer.ggml.merges") as string[])[0]).toMatch(/^\S+ \S+$/);
    await opened(MODEL, async (checkpoint) => {
      const stored = await checkpoint.readF32("h.1.mlp.c_fc.weight"); // [64, 256]
      const found = tensors.get("blk.1.ffn_up.weight");
      expect([found?.type, found?.shape]).toEqual([1, [256, 64]]);
      const values = decodeFloats(found?.bytes as Uint8Array, "F16");
      expect(values[3 * 64 + 5]).toBeCloseTo(stored[5 * 256 + 3] as number, 3);
      const positions = tensors.get("position_embd.weight");
      expect(positions?.type).toBe(0);
      expect(decodeFloats(positions?.bytes as Uint8Array, "F32")).toEqual(await checkpoint.readF32("wpe.weight"));
    });
    expect(tensors.size).toBe(2 + 2 * 12 + 2);
  });

  it("stores rows that are no whole blocks in float16, and biases that the model lacks as zeros", async () => {
    const model = await writeCheckpoint(fresh("model"), { bias: false, width: 32, inner: 48, vocab: 50_257 });
    const { tensors } = readGguf(join(await written(model, { gguf: ["q4_0"] }), "model-q4_0.gguf"));
    expect(tensors.get("blk.0.attn_qkv.weight")?.type).toBe(2);
    expect([tensors.get("blk.0.ffn_down.weight")?.type, tensors.get("blk.0.ffn_down.weight")?.shape]).toEqual([
      1,
      [32, 48],
    ]);
    const bias = decodeFloats(tensors.get("blk.1.attn_qkv.bias")?.bytes as Uint8Array, "F32");
    expect([...bias]).toEqual(Array<number>(96).fill(0));
  });

  it("is named by the card with llama.cpp's command", async () => {
    const card = readFileSync(join(await written(MODEL), "README.md"), "utf8");
    expect(card).toContain("/model-f16.gguf -p");
    expect(card).toContain("  - gguf");
    expect(card).not.toContain("nfc generate");
  });

  it("counts where a folder is checked", async () => {
    const output = await written(MODEL);
    const { unread } = await findModelFiles(path("."), basename(output));
    expect(unread).toEqual(ALL.map((type) => `${basename(output)}/model-${type}.gguf`).sort());
  });

  it("is replaced by --force like any other export", async () => {
    const output = await written(MODEL);
    await opened(MODEL, (checkpoint) => exportModel(checkpoint, { output, gguf: ["f16"], force: true }));
    expect(readGguf(join(output, "model-f16.gguf")).tensors.size).toBe(28);
  });
});

describe("what GGUF cannot hold", () => {
  const refusal = async (model: string) => {
    const { code, message, hint } = await failureOf(() => written(model));
    return { code, message, hint: String(hint) };
  };

  it("a tied model is refused with the command that expands it", async () => {
    const model = fresh("tied");
    await converted({ output: model });
    const { code, message, hint } = await refusal(model);
    expect(code).toBe("unsupported");
    expect(message).toContain("symmetric");
    expect(hint).toContain("--gpt2 -o FOLDER");
  });

  it("distance means are refused with --drop-noise, and narrow heads as such", async () => {
    const noisy = fresh("noisy");
    await converted({ output: noisy, variant: "noise-distance" });
    expect((await refusal(noisy)).hint).toContain("--gpt2 --drop-noise");
    const narrow = await formOf(MODEL, fresh("narrow"), { variant: "low-rank", qk: 8, vo: 8 });
    expect((await refusal(narrow)).message).toContain("its attention is low-rank");
  });

  it.each([
    [{ activation_function: "relu" }, "relu"],
    [{ scale_attn_weights: false }, "another scale"],
    [{ scale_attn_by_inverse_layer_idx: true }, "another scale"],
  ])("a model of %o is refused", async (keys, fact) => {
    const config = { ...tinyHfConfig(), ...keys };
    expect((await refusal(await writeCheckpoint(fresh("model"), { config }))).message).toContain(fact);
  });

  it("a model without a tokenizer is refused, and nothing is written", async () => {
    const { code, message } = await refusal(await writeCheckpoint(fresh("model")));
    expect([code, message]).toEqual(["not-found", expect.stringContaining("no tokenizer.json")]);
  });
});

describe.skipIf(!llama)(
  `llama.cpp on the same weights${llama ? "" : " (NFC_LLAMA_CPP names no node-llama-cpp)"}`,
  () => {
    it("reads the tokenizer and loses as little on a text as the model", async () => {
      const output = await written(MODEL);
      const text = readFileSync(TEXT, "utf8").slice(0, 2000);
      const { ids, loss } = await opened(MODEL, async (checkpoint) => {
        const all = (await loadTokenizer(checkpoint.folder, checkpoint.config)).encode(text);
        const window = all.slice(0, 64);
        const logits = await computeLogits(checkpoint, [Int32Array.from(window)], { threads: 1 });
        return { ids: all, loss: meanLoss(logits, window, checkpoint.config.vocab_size) };
      });
      for (const [precision, allowed] of [
        ["f16", 0.005],
        ["q8_0", 0.005],
        ["q4_0", 0.1],
      ] as const) {
        const file = join(output, `model-${precision}.gguf`);
        const asked = await askLlama(llama as NonNullable<typeof llama>, file, text, ids.slice(0, 64));
        expect(asked.ids).toEqual(ids);
        expect(Math.abs(Math.exp(asked.loss - loss) - 1), precision).toBeLessThan(allowed);
      }
    });
  },
);

/** Mean loss of the ids after the first, in nats. */
function meanLoss(logits: Float32Array, ids: readonly number[], width: number): number {
  const losses = ids.slice(1).map((id, i) => {
    const row = logits.subarray(i * width, (i + 1) * width);
    const peak = Math.max(...row);
    return peak + Math.log(row.reduce((sum, value) => sum + Math.exp(value - peak), 0)) - (row[id] as number);
  });
  return losses.reduce((a, b) => a + b, 0) / losses.length;
}
