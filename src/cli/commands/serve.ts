// nfc serve: serves a page that runs an exported model in the browser, on this machine only.
import { Command } from "commander";
import { nameModelFile } from "../../model/precision.ts";
import type { Served } from "../../serve/serve.ts";
import { makeNumberParser } from "../options.ts";
import { type Context, note, type OutputFlags, openBrowser, printResult } from "../terminal.ts";

interface ServeFlags extends OutputFlags {
  port?: number;
  open?: boolean;
}

const HELP = `
The page runs the model with transformers.js: on WebGPU where the browser has a graphics adapter for it, with q4f16 or
q4, else in WebAssembly, with int8. The page says which, and has both to choose from; ?device=wasm&dtype=q8 at the end
of its address does, too. Nothing leaves this machine. The server listens on 127.0.0.1 and serves the page, the model
and transformers.js, no other file. Ctrl-C ends it.

Examples:
  $ nfc export out/nf --onnx -o out/onnx
  $ nfc serve out/onnx
  $ nfc serve out/onnx --port 9000 --open`;

export function serveCommand(context: Context): Command {
  return new Command("serve")
    .argument("<folder>", "a folder written by nfc export --onnx")
    .option("--port <n>", "port on 127.0.0.1, 0 for any (default: the first free one from 8765)", parsePort)
    .option("--open", "open the page in the browser")
    .option("--json", "print the address as JSON")
    .option("-q, --quiet", "no notes")
    .addHelpText("after", HELP)
    .action((folder: string, flags: ServeFlags) => run(context, folder, flags));
}

async function run({ io, signal }: Context, folder: string, flags: ServeFlags): Promise<void> {
  const { serve } = await import("../../serve/serve.ts");
  const served = await serve(folder, { port: flags.port });
  try {
    const { url, cdn, info } = served;
    if (cdn)
      note(
        io,
        flags,
        `transformers.js 4 is not installed here: the page takes version ${info.library.version} from a CDN; to run without a network: npm install @huggingface/transformers@${info.library.version}`,
      );
    for (const { precision, halfFloats, webgpuAdvice } of info.precisions)
      if (halfFloats && webgpuAdvice !== null)
        note(io, flags, `${nameModelFile(precision)}: runs on WebGPU with shader-f16 only; ${webgpuAdvice}`);
    printResult(io, flags, toJson(folder, served), () => url);
    note(io, flags, "Ctrl-C ends it");
    if (flags.open) openBrowser(url, (fact) => note(io, flags, `the browser does not open: ${fact}`));
    await waitForEnd(signal);
  } finally {
    await served.close();
  }
}

function toJson(model: string, { url, port, cdn, info }: Served): object {
  const { variant, parameters, precisions, preferred, library } = info;
  return {
    url,
    port,
    model,
    variant,
    parameters,
    precisions: precisions.map(({ precision, bytes, halfFloats }) => ({ precision, bytes, halfFloats })),
    preferred,
    transformersJs: { version: library.version, from: cdn ? "cdn" : "installed" },
  };
}

/** Ctrl-C ends a server without a fault, with exit code 0. */
function waitForEnd(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

const parsePort = makeNumberParser("not a port from 0 to 65535", (value) => value <= 65_535);
