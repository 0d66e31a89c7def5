// Snippets that run an exported model, for each runtime that reads its folder. docs/runtimes.md lists the tests of them.
import type { ModelConfig } from "../../model/config.ts";
import { countAttentionColumns } from "../../model/head-widths.ts";
import {
  CPU_ORDER,
  chooseFirst,
  isHalf,
  needsPlainBuild,
  type Precision,
  toTransformersJsDtype,
  toTransformersJsName,
  WEBGPU_ORDER,
} from "../../model/precision.ts";
import { type Block, group, heading, paragraph } from "../../report/render/blocks.ts";
import { RUN_NFC } from "../../version.ts";
import { findCacheWidth } from "../onnx/genai-config.ts";

export interface RuntimeModel {
  /** The folder as the snippets call it: letters, digits, "_", "." and "-" only. */
  name: string;
  config: ModelConfig;
  /** The file that the snippets load; null without ONNX. */
  onnx: { precision: Precision; file: string } | null;
  /** All precisions in the folder, of which pages choose by the adapter. */
  precisions: readonly Precision[];
  /** The form of model.safetensors, see `ModelCard`; null without one. */
  weights: "compact" | "hf" | "gpt2" | null;
  /** Files for llama.cpp, below the folder. */
  gguf?: readonly string[] | undefined;
}

const PROMPT = "The history of";

/** Sections of Markdown, level 3. */
export function makeRuntimes(model: RuntimeModel): Block[] {
  const { onnx, weights, config, gguf = [] } = model;
  return [
    ...(onnx || weights ? [makeSection("nfc", "sh", nfc(model))] : []),
    ...(onnx ? makeOnnxRuntimes(model, onnx) : []),
    ...(weights === "hf" || weights === "gpt2"
      ? [makeSection("transformers (Python)", "python", transformers(model))]
      : []),
    ...(weights === "compact" ? [heading(3, "transformers (Python)"), refuseCompact(config)] : []),
    ...gguf.slice(0, 1).map((file) => makeSection("llama.cpp", "sh", [llamaCpp(`${model.name}/${file}`)])),
  ];
}

const llamaCpp = (file: string) => `llama-completion -m ${file} -p "${PROMPT}" -n 40 --temp 0 -no-cnv`;

/** The same for a classifier. */
export function makeClassifierRuntimes({ name, onnx, weights }: RuntimeModel): Block[] {
  const TEXT = "It was a fine film.";
  return [
    ...(onnx
      ? [
          makeSection("transformers.js", "js", [
            'import { pipeline } from "@huggingface/transformers";',
            `const classify = await pipeline("text-classification", "./${name}", { dtype: "${toTransformersJsDtype(onnx.precision)}" });`,
            `console.log(await classify("${TEXT}"));`,
          ]),
        ]
      : []),
    ...(weights === "gpt2"
      ? [
          makeSection("transformers (Python)", "python", [
            "from transformers import pipeline",
            `print(pipeline("text-classification", "${name}")("${TEXT}"))`,
          ]),
        ]
      : []),
  ];
}

function makeOnnxRuntimes(model: RuntimeModel, onnx: { precision: Precision; file: string }): Block[] {
  return [
    makeSection("transformers.js, Node", "js", transformersJs(`./${model.name}`, onnx.precision)),
    makeSection("transformers.js, browser", "js", [
      'import { env, pipeline } from "@huggingface/transformers";',
      "env.allowLocalModels = true;",
      'env.localModelPath = "/"; // the folder is served beside the page',
      ...chooseInBrowser(model.precisions),
      `const generate = await pipeline("text-generation", "${model.name}", options);`,
      `console.log(await generate("${PROMPT}", { max_new_tokens: 40 }));`,
    ]),
    makeSection("ONNX Runtime (Python)", "python", onnxRuntime(model, onnx)),
    ...(findCacheWidth(model.config) === null
      ? [] // there is no genai_config.json
      : [makeSection("onnxruntime-genai (Python)", "python", genai(model.name))]),
    makeSection("optimum (Python, transformers 4)", "python", optimum(model.name, onnx.file)),
  ];
}

/**
 * Lines that set `options` as `nfc serve` chooses: WebGPU where there is an adapter for one of the files, else WebAssembly.
 * fp32 is no file for WebGPU where a page can load a smaller one in WebAssembly.
 */
function chooseInBrowser(there: readonly Precision[]): string[] {
  const inWasm = chooseFirst(CPU_ORDER, there) as Precision;
  const small = there.filter((precision) => {
    return (precision !== "fp32" || inWasm === "fp32") && toTransformersJsName(precision) === null;
  });
  const [half, full] = [chooseFirst(WEBGPU_ORDER.half, small), chooseFirst(WEBGPU_ORDER.full, small)];
  const options = (device: string, precision: Precision) => `{ device: "${device}", ${nameFile(precision)} }`;
  const wasm = options("wasm", inWasm);
  const build = needsPlainBuild(inWasm) ? PLAIN_BUILD : [];
  if (half === null) return [`const options = ${wasm};`, ...build];
  const adapter = "const adapter = await navigator.gpu?.requestAdapter();";
  if (half === full) return [adapter, `const options = adapter ? ${options("webgpu", half)} : ${wasm};`, ...build];
  const test = 'const half = adapter?.features.has("shader-f16"); // 16-bit floats';
  if (full === null) return [adapter, test, `const options = half ? ${options("webgpu", half)} : ${wasm};`, ...build];
  const dtype = `half ? "${toTransformersJsDtype(half)}" : "${toTransformersJsDtype(full)}"`;
  return [adapter, test, `const options = adapter ? { device: "webgpu", dtype: ${dtype} } : ${wasm};`, ...build];
}

/** Lines for files that only ONNX Runtime's build without WebGPU runs in WebAssembly. */
const PLAIN_BUILD = [
  'if (options.device === "wasm") { // the build without WebGPU, which alone reads embeddings in blocks there',
  "  const { wasm, versions } = env.backends.onnx;",
  '  const folder = "https://cdn.jsdelivr.net/npm/onnxruntime-web@" + versions.web + "/dist/";',
  '  const name = folder + "ort-wasm-simd-threaded";',
  '  wasm.wasmPaths = { mjs: name + ".mjs", wasm: name + ".wasm" };',
  "}",
];

function refuseCompact(config: ModelConfig): Block {
  const columns = countAttentionColumns(config, 0);
  const shape = columns === 2 * config.n_embd ? "[C, 2C]" : `[${config.n_embd}, ${columns}]`;
  return paragraph(
    "Stops at the shape of ",
    { code: "c_attn" },
    ", ",
    { code: shape },
    ": export with ",
    { code: "--hf" },
    " for a folder that it loads, or with ",
    { code: "--gpt2" },
    " for plain GPT-2.",
  );
}

function makeSection(title: string, language: string, lines: readonly string[]): Block {
  return group(heading(3, title), { kind: "code", language, lines });
}

function nfc({ name, onnx }: RuntimeModel): string[] {
  const precision = onnx ? ` --precision ${onnx.precision}` : "";
  return [`${RUN_NFC} generate ${name}${precision} --prompt "${PROMPT}" --max-new-tokens 40`];
}

function transformersJs(path: string, precision: Precision): string[] {
  return [
    'import { pipeline } from "@huggingface/transformers";',
    `const generate = await pipeline("text-generation", "${path}", { ${nameFile(precision)} });`,
    `console.log(await generate("${PROMPT}", { max_new_tokens: 40 }));`,
  ];
}

/** The options by which transformers.js finds the file. */
function nameFile(precision: Precision): string {
  const name = toTransformersJsName(precision);
  return `dtype: "${toTransformersJsDtype(precision)}"${name === null ? "" : `, model_file_name: "${name}"`}`;
}

/** Prints the likeliest next token alone, without a loop. An empty cache may be as wide as GPT-2's whatever the ranks. */
function onnxRuntime({ name, config }: RuntimeModel, onnx: { precision: Precision; file: string }): string[] {
  const cache = `(1, ${config.n_head}, 0, ${config.n_embd / config.n_head}), np.float${isHalf(onnx.precision) ? 16 : 32}`;
  return [
    "import numpy as np, onnxruntime, tokenizers",
    `tokenizer = tokenizers.Tokenizer.from_file("${name}/tokenizer.json")`,
    `session = onnxruntime.InferenceSession("${name}/${onnx.file}")`,
    `ids = np.array([tokenizer.encode("${PROMPT}").ids])`,
    `feeds = {i.name: np.zeros(${cache}) for i in session.get_inputs() if "past" in i.name}`,
    'feeds |= {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": np.arange(ids.size)[None]}',
    'print(tokenizer.decode([session.run(["logits"], feeds)[0][0, -1].argmax()]))',
  ];
}

function genai(name: string): string[] {
  return [
    "import onnxruntime_genai as og",
    `model = og.Model("${name}")`,
    "tokenizer, params = og.Tokenizer(model), og.GeneratorParams(model)",
    "params.set_search_options(max_length=60)",
    "generator = og.Generator(model, params)",
    `generator.append_tokens(tokenizer.encode("${PROMPT}"))`,
    "while not generator.is_done():",
    "    generator.generate_next_token()",
    "print(tokenizer.decode(generator.get_sequence(0)))",
  ];
}

function optimum(name: string, file: string): string[] {
  return [
    "from optimum.onnxruntime import ORTModelForCausalLM",
    "from transformers import AutoTokenizer, pipeline",
    `model = ORTModelForCausalLM.from_pretrained("${name}", file_name="${file.replace(/^.*\//, "")}")`,
    `generate = pipeline("text-generation", model, tokenizer=AutoTokenizer.from_pretrained("${name}"))`,
    `print(generate("${PROMPT}", max_new_tokens=40))`,
  ];
}

function transformers({ name, weights }: RuntimeModel): string[] {
  const trust = weights === "hf" ? ", trust_remote_code=True" : "";
  return [
    "from transformers import pipeline",
    `generate = pipeline("text-generation", "${name}"${trust})`,
    `print(generate("${PROMPT}", max_new_tokens=40))`,
  ];
}
