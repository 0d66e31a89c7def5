// Makes the list of addresses that nfc serve answers, each a file or a text, once from an exported folder.

import { realpath, stat } from "node:fs/promises";
import { basename, extname, join, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { CONFIG_FILE, GENERATION_FILE } from "../checkpoint/config-file.ts";
import { NfcError } from "../errors.ts";
import type { ExportedFile, ExportedModel } from "../inference/exported/exported-model.ts";
import { refuseLinkOut } from "../inference/exported/external-data.ts";
import { fileExists } from "../io/exists.ts";
import { TOKENIZER_FILES } from "../io/tokenizer-files.ts";
import { countParameters } from "../model/parameters.ts";
import {
  CPU_ORDER,
  chooseFirst,
  isHalf,
  type Precision,
  toTransformersJsDtype,
  toTransformersJsName,
  WEBGPU_ORDER,
} from "../model/precision.ts";
import { describeRanks, describeSharing } from "../report/attention-words.ts";
import { TOOL } from "../version.ts";
import { type BrowserDevice, type BrowserRuntime, type Build, CDN, listRuntimeFiles } from "./browser-runtime.ts";

/** A file by its path without links, or a text. */
export type Resource = { type: string } & ({ path: string } | { text: string });

/** The resource at each address, which is the path of a URL, byte for byte. */
export type Site = ReadonlyMap<string, Resource>;

/** The facts about the model that the page reads from /model.json. */
export interface PageInfo {
  /** The folder and the one that it lies in. */
  name: string;
  variant: string;
  /** How queries and keys are stored, and ranks; null for GPT-2's own. */
  attention: string | null;
  parameters: number;
  layers: number;
  heads: number;
  width: number;
  /** Longest text, prompt and continuation together, in tokens. */
  positions: number;
  /** The token that an empty prompt stands for. */
  start: number | null;
  precisions: PageFile[];
  /** The precision to load without a choice: in WebAssembly, and on WebGPU with and without 16-bit floats. */
  preferred: { wasm: Precision; webgpu: { half: Precision | null; full: Precision | null } };
  /** `builds`: the addresses of ONNX Runtime for each device; null where the page takes them from the CDN. */
  library: { url: string; version: string; builds: Record<BrowserDevice, Build> | null };
  nfc: string;
}

interface PageFile {
  precision: Precision;
  dtype: string;
  /** The `model_file_name` of transformers.js; null where the dtype is enough. */
  name: string | null;
  bytes: number;
  dataFiles: number;
  /** Whether a WebGPU adapter has to have 16-bit floats (shader-f16) for it. */
  halfFloats: boolean;
  /** Why WebGPU is slow with the file, or how to get one that more adapters run; null for neither. */
  webgpuAdvice: string | null;
}

const PAGE = fileURLToPath(new URL("../../assets/page/", import.meta.url));
const PAGE_FILES = ["index.html", "app.js", "worker.js", "choose-device.js", "sampling.js", "style.css"];

const TYPES: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json; charset=utf-8",
  ".txt": "text/plain; charset=utf-8",
  ".wasm": "application/wasm",
};

const findContentType = (file: string): string => TYPES[extname(file)] ?? "application/octet-stream";
const JSON_TYPE = findContentType("any.json");

/**
 * @throws NfcError "unsupported" where the page could not read text: no tokenizer.json; "invalid-file" for a file that is
 *   a link out of the folder
 */
export async function makeSite(model: ExportedModel, runtime: BrowserRuntime): Promise<{ site: Site; info: PageInfo }> {
  if (!fileExists(join(model.folder, "tokenizer.json")))
    throw new NfcError(
      "unsupported",
      `${model.source}: has no tokenizer.json, without which the page cannot read text`,
      { hint: "put the model's tokenizer.json beside config.json" },
    );
  const info = describeModel(model, runtime);
  const site = new Map<string, Resource>([["/model.json", { type: JSON_TYPE, text: JSON.stringify(info) }]]);
  for (const name of PAGE_FILES)
    site.set(name === "index.html" ? "/" : `/${name}`, {
      type: findContentType(name),
      path: await realpath(join(PAGE, name)),
    });
  await addModel(site, model);
  if (runtime.files)
    for (const path of listRuntimeFiles(runtime.files))
      site.set(libraryAddress(path), { type: findContentType(path), path: await realpath(path) });
  return { site, info };
}

async function addModel(site: Map<string, Resource>, model: ExportedModel): Promise<void> {
  const add = async (address: string, path: string) => {
    const real = await refuseLinkOut(path, model.folder);
    if (!(await stat(real)).isFile()) throw new NfcError("invalid-file", `${path}: no regular file`);
    site.set(`/model/${address}`, { type: findContentType(address), path: real });
  };
  for (const name of [CONFIG_FILE, GENERATION_FILE, ...TOKENIZER_FILES])
    if (fileExists(join(model.folder, name))) await add(name, join(model.folder, name));
  // transformers.js wants the file, and a GPT-2 tokenizer needs nothing that it could say.
  if (!site.has("/model/tokenizer_config.json"))
    site.set("/model/tokenizer_config.json", { type: JSON_TYPE, text: '{"tokenizer_class":"GPT2Tokenizer"}' });
  for (const file of model.files.values())
    for (const path of [file.path, ...file.data]) await add(`onnx/${basename(path)}`, path);
}

function describeModel(
  { folder, config, files }: ExportedModel,
  { version, files: installed }: BrowserRuntime,
): PageInfo {
  return {
    name: folder.split(sep).slice(-2).join("/"),
    variant: config.variant,
    attention:
      [describeSharing(config.variant), describeRanks(config)].filter((fact) => fact !== null).join(", ") || null,
    parameters: countParameters(config),
    layers: config.n_layer,
    heads: config.n_head,
    width: config.n_embd,
    positions: config.n_positions,
    start: config.bos_token_id ?? null,
    precisions: [...files.values()].map(describeFile),
    preferred: choosePreferred([...files.values()]),
    library: {
      version,
      url: installed
        ? libraryAddress(installed.library)
        : `${CDN}/npm/@huggingface/transformers@${version}/dist/transformers.min.js`,
      builds: installed && { wasm: addressBuild(installed.builds.wasm), webgpu: addressBuild(installed.builds.webgpu) },
    },
    nfc: TOOL.version,
  };
}

function describeFile({ precision, bytes, data, halfFloats }: ExportedFile): PageFile {
  const advice =
    precision === "int8"
      ? "WebGPU has no kernels for the products of int8, which the CPU computes: q4 is the file for WebGPU"
      : halfFloats && !isHalf(precision)
        ? describeNewExport(precision)
        : null;
  return {
    ...{ precision, bytes, halfFloats },
    dtype: toTransformersJsDtype(precision),
    name: toTransformersJsName(precision),
    dataFiles: data.length,
    webgpuAdvice: advice,
  };
}

/** The advice for a float32 file with tables in float16, as older versions wrote q4 and uint8. */
const describeNewExport = (precision: Precision): string =>
  `an export by this version of nfc needs no shader-f16: nfc export MODEL --onnx --precision ${precision} -o FOLDER`;

function choosePreferred(files: readonly ExportedFile[]): PageInfo["preferred"] {
  const all = files.map(({ precision }) => precision);
  const full = files.filter(({ halfFloats }) => !halfFloats).map(({ precision }) => precision);
  return {
    wasm: chooseFirst(CPU_ORDER, all) as Precision,
    webgpu: { half: chooseFirst(WEBGPU_ORDER.half, all), full: chooseFirst(WEBGPU_ORDER.full, full) },
  };
}

const libraryAddress = (path: string): string => `/library/${basename(path)}`;
const addressBuild = ({ mjs, wasm }: Build): Build => ({ mjs: libraryAddress(mjs), wasm: libraryAddress(wasm) });
