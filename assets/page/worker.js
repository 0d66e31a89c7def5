// Runs the model in a thread of its own, so that the page stays quick: one worker for one file on one device.
import { chooseToken, makeRandom } from "/sampling.js";

/** What the user asked for cannot be done, on any device. */
class Refusal extends Error {}

/** What `load` leaves for `generate`. */
let loaded;

self.onmessage = ({ data }) => {
  const action = data.type === "load" ? load : generate;
  action(data).catch((error) =>
    self.postMessage({ type: "error", message: inWords(error), refusal: error instanceof Refusal }),
  );
};

/** Loads library, tokenizer and model; `stop` is shared memory whose first number ends a generation when it is 1. */
async function load({ info, file, device, stop }) {
  const library = await loadLibrary(info.library, device);
  const { AutoModelForCausalLM, AutoTokenizer } = library;
  const tokenizer = await AutoTokenizer.from_pretrained("model");
  const model = await AutoModelForCausalLM.from_pretrained("model", {
    device,
    dtype: file.dtype,
    ...(file.name && { model_file_name: file.name }),
    use_external_data_format: file.dataFiles,
    progress_callback: progressOf(file.bytes),
  });
  loaded = { library, tokenizer, model, info, stop };
  // The first run of a session prepares what the later ones reuse.
  await model(inputs([info.start ?? 0]));
  self.postMessage({ type: "ready", threads: library.env.backends.onnx.wasm.numThreads ?? 1 });
}

async function loadLibrary({ url, builds }, device) {
  const library = await import(url).catch((cause) => {
    throw new Error(`transformers.js does not load from ${url}`, { cause });
  });
  const { env } = library;
  env.allowRemoteModels = false;
  env.allowLocalModels = true;
  env.localModelPath = "/";
  // The browser's own cache holds the files already.
  env.useBrowserCache = false;
  env.useWasmCache = false;
  const absolute = (path) => new URL(path, self.location.href).href;
  const { mjs, wasm } = (builds ?? nameBuilds(url, env.backends.onnx.versions.web))[device];
  env.backends.onnx.wasm.wasmPaths = { mjs: absolute(mjs), wasm: absolute(wasm) };
  return library;
}

/** The builds of ONNX Runtime on the CDN that the library comes from. Only that without WebGPU runs all files without it. */
function nameBuilds(library, version) {
  const build = new URL(`/npm/onnxruntime-web@${version}/dist/ort-wasm-simd-threaded`, library).href;
  const name = (suffix) => ({ mjs: `${build}${suffix}.mjs`, wasm: `${build}${suffix}.wasm` });
  return { wasm: name(""), webgpu: name(".asyncify") };
}

/** Adds up the bytes of the model's files, of which there is one, and its data. */
function progressOf(total) {
  const done = new Map();
  return ({ status, file, loaded: bytes }) => {
    if (status !== "progress" || !file.startsWith("onnx/")) return;
    done.set(file, bytes);
    self.postMessage({ type: "progress", done: [...done.values()].reduce((sum, part) => sum + part, 0), total });
  };
}

/** One row without padding. */
function inputs(ids) {
  const { Tensor } = loaded.library;
  const row = (values) => new Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]);
  return { input_ids: row(ids), attention_mask: row(ids.map(() => 1)) };
}

async function generate({ prompt, maxNewTokens, seed, ...sampling }) {
  const { library, tokenizer, model, info, stop } = loaded;
  const ids = promptIds(prompt);
  const room = info.positions - ids.length;
  if (room < 1)
    throw new Refusal(`The prompt has ${ids.length} tokens, and the model reads ${info.positions}: shorten it.`);
  const limit = Math.min(maxNewTokens, room);
  const start = performance.now();
  let [count, first, last] = [0, 0, 0];
  const streamer = new library.TextStreamer(tokenizer, {
    skip_prompt: true,
    callback_function: (text) => self.postMessage({ type: "text", text }),
    token_callback_function: () => {
      last = performance.now() - start;
      first ||= last;
      count++;
      self.postMessage({ type: "token", count, first, last });
    },
  });
  await model.generate({
    ...inputs(ids),
    max_new_tokens: limit,
    do_sample: false,
    logits_processor: sampler(sampling, seed),
    stopping_criteria: stopper(stop),
    streamer,
  });
  const reason = stop[0] ? "stopped" : count < limit ? "end" : limit < maxNewTokens ? "positions" : "length";
  self.postMessage({ type: "done", count, first, last, reason });
}

/** The token ids of a prompt; an empty one is the start of a text. */
function promptIds(prompt) {
  const { tokenizer, info } = loaded;
  const ids = tokenizer.encode(prompt, { add_special_tokens: false });
  if (ids.length > 0) return ids;
  if (info.start === null) throw new Refusal("Write a prompt: this model has no token for the start of a text.");
  return [info.start];
}

/** Leaves only the token that is chosen here: transformers.js has no seed, and no top-k together with top-p. */
function sampler(sampling, seed) {
  const { LogitsProcessor, LogitsProcessorList } = loaded.library;
  const random = makeRandom(seed);
  class Choice extends LogitsProcessor {
    _call(_, logits) {
      const id = chooseToken(logits.data, sampling, random);
      logits.data.fill(-Infinity);
      logits.data[id] = 0;
      return logits;
    }
  }
  const list = new LogitsProcessorList();
  list.push(new Choice());
  return list;
}

function stopper(stop) {
  const { StoppingCriteria } = loaded.library;
  class Stopper extends StoppingCriteria {
    _call(rows) {
      return rows.map(() => Atomics.load(stop, 0) === 1);
    }
  }
  return new Stopper();
}

/** ONNX Runtime throws numbers where WebAssembly has run out of memory. */
function inWords(error) {
  const message = error instanceof Error ? error.message : String(error);
  if (/^\d+$|out of memory|memory access|Array buffer allocation|bad_alloc|Aborted\(/i.test(message))
    return "The browser has not enough memory for this file. A smaller precision may fit.";
  return message;
}
