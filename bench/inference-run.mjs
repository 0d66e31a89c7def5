// One measurement of bench/inference.mjs in a process of its own: loads an exported file, reads a prompt, writes tokens.
// Usage: node bench/inference-run.mjs nfc|transformers.js|llama.cpp FOLDER PRECISION THREADS PROMPT NEW [DEVICE]
import { readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { findLlama, GGUF_OF } from "./llama.mjs";

process.env.ORT_DISABLE_TELEMETRY = "1"; // Transformers.js loads onnxruntime-node, which reports otherwise
const [engine, folder, precision, ...more] = process.argv.slice(2);
const [threads, promptLength, newTokens] = more.slice(0, 3).map(Number);
const device = more[3] ?? "cpu";
const { vocab_size } = JSON.parse(readFileSync(join(folder, "config.json"), "utf8"));
const prompt = Array.from({ length: promptLength }, (_, i) => (i * 7919 + 13) % vocab_size);

/** Gives a function that generates so many tokens after the prompt, greedily and without an end token. */
const ENGINES = {
  async nfc() {
    const { chooseFile, openExportedModel } = await import("../dist/inference/exported/exported-model.js");
    const { Decoder } = await import("../dist/inference/generate/decoder.js");
    const { decodePrompts } = await import("../dist/inference/generate/generate.js");
    const model = await openExportedModel(folder);
    const decoder = await Decoder.ofFile(chooseFile(model, precision), model.config, { threads, device });
    const tokenizer = { decode: () => "" }; // tokens are counted, not read
    return async (count) => {
      let tokens = 0;
      for await (const { id } of decodePrompts(decoder, tokenizer, [prompt], { maxNewTokens: count }))
        tokens += id === null ? 0 : 1;
      return tokens;
    };
  },
  async "transformers.js"() {
    const { AutoModelForCausalLM, env, Tensor } = await import("@huggingface/transformers");
    env.allowRemoteModels = false;
    env.localModelPath = `${dirname(folder)}/`;
    const dtype = { int8: "q8", uint8: "uint8" }[precision] ?? precision;
    const session_options = { intraOpNumThreads: threads, interOpNumThreads: 1 };
    const model = await AutoModelForCausalLM.from_pretrained(basename(folder), { dtype, session_options });
    const row = (values) => new Tensor("int64", BigInt64Array.from(values, BigInt), [1, promptLength]);
    return async (count) => {
      const output = await model.generate({
        input_ids: row(prompt),
        attention_mask: row(prompt.map(() => 1)),
        max_new_tokens: count,
        min_new_tokens: count,
        do_sample: false,
      });
      return output.dims[1] - promptLength;
    };
  },
  async "llama.cpp"() {
    const { getLlama } = await import(findLlama());
    const llama = await getLlama({ gpu: false, build: "never", logLevel: "error", maxThreads: threads });
    const model = await llama.loadModel({ modelPath: join(folder, `model-${GGUF_OF[precision]}.gguf`) });
    const context = await model.createContext({ contextSize: promptLength + newTokens + 2, threads });
    const sequence = context.getSequence();
    return async (count) => {
      await sequence.clearHistory();
      let tokens = 0;
      for await (const _ of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true }))
        if (++tokens === count) break;
      return tokens;
    };
  },
};

const started = performance.now();
const run = await ENGINES[engine]();
const load = (performance.now() - started) / 1000;
await run(2); // kernels and buffers that are made on first use

async function seconds(count) {
  const from = performance.now();
  const made = await run(count);
  if (made !== count) throw new Error(`${engine} wrote ${made} tokens, not ${count}`);
  return (performance.now() - from) / 1000;
}
const first = await seconds(1);
const all = await seconds(1 + newTokens);
console.log(
  JSON.stringify({
    load,
    prefill: promptLength / first,
    decode: newTokens / (all - first),
    peak: process.resourceUsage().maxRSS / 1024,
  }),
);
process.exit(0); // llama.cpp keeps its threads
