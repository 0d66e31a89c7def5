// Serves a page that runs an exported model in this machine's browsers, until it is told to stop.
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { NfcError } from "../errors.ts";
import { openExportedModel } from "../inference/exported/exported-model.ts";
import { readErrno } from "../io/io-error.ts";
import { findBrowserRuntime } from "./browser-runtime.ts";
import { makeRequestListener } from "./http.ts";
import { makeSite, type PageInfo } from "./site.ts";

const DEFAULT_PORT = 8765;
/** How many ports from the default one on are tried. */
const ATTEMPTS = 20;
/** The only address that is listened on: this machine's own. */
const ADDRESS = "127.0.0.1";

export interface ServeOptions {
  /** 0: any free one. Without it, the first free one from 8765 on. */
  port?: number | undefined;
  /** Folders from which transformers.js is looked for before nfc's own (default: the working folder). */
  libraryFolders?: readonly string[] | undefined;
}

export interface Served {
  url: string;
  port: number;
  info: PageInfo;
  /** Whether the browser takes transformers.js from a CDN, because it is not installed here. */
  cdn: boolean;
  /** Ends all connections; resolves when the port is free again. */
  close(): Promise<void>;
}

/**
 * @throws NfcError for a folder that is no usable export, "io" for a port that cannot be had
 */
export async function serve(source: string, options: ServeOptions = {}): Promise<Served> {
  const { port, libraryFolders = [process.cwd(), fileURLToPath(new URL(".", import.meta.url))] } = options;
  const runtime = findBrowserRuntime(libraryFolders);
  const { site, info } = await makeSite(await openExportedModel(source), runtime);
  const server = createServer();
  const actualPort = () => (server.address() as AddressInfo).port;
  const cdn = runtime.files === null;
  server.on("request", makeRequestListener(site, { cdn, port: actualPort }));
  await (port === undefined ? listenFrom(server, DEFAULT_PORT) : listen(server, port));
  return {
    url: `http://${ADDRESS}:${actualPort()}/`,
    port: actualPort(),
    info,
    cdn,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function listenFrom(server: Server, first: number): Promise<void> {
  for (let port = first; port < first + ATTEMPTS; port++) {
    try {
      return await listen(server, port);
    } catch (error) {
      if (port === first + ATTEMPTS - 1 || !(error instanceof NfcError)) throw error;
    }
  }
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error) => reject(makePortError(error, port));
    server.once("error", fail);
    server.listen({ port, host: ADDRESS, exclusive: true }, () => {
      server.off("error", fail);
      resolve();
    });
  });
}

function makePortError(error: Error, port: number): Error {
  const facts: Readonly<Record<string, string>> = {
    EADDRINUSE: "another program uses it",
    EACCES: "the system does not let you use it",
  };
  const fact = facts[readErrno(error) ?? ""];
  if (fact === undefined) return error;
  return new NfcError("io", `port ${port}: ${fact}`, { hint: "choose another one with --port", cause: error });
}
