// A local server that speaks the part of the Hugging Face Hub's API that a download needs.
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface FakeHubOptions {
  name: string;
  /** Files of the repository; those of `large` are listed as LFS files. */
  files: Record<string, Uint8Array>;
  large?: (name: string) => boolean;
  commit?: string;
  /** Branches and tags. */
  revisions?: string[];
  /** Answer only requests with this token. */
  token?: string;
  /** Change an answer: return true when the response has been sent. */
  intercept?: (request: IncomingMessage, response: ServerResponse) => boolean;
}

export interface FakeHub {
  url: string;
  commit: string;
  /** "GET /path" of every request, without queries. */
  requests: string[];
  close(): Promise<void>;
}

/** Starts the server on a free port. */
export async function startFakeHub(options: FakeHubOptions): Promise<FakeHub> {
  const commit = options.commit ?? "c".repeat(40);
  const requests: string[] = [];
  const server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url?.split("?")[0]}`);
    if (options.intercept?.(request, response)) return;
    if (options.token !== undefined && request.headers.authorization !== `Bearer ${options.token}`) {
      json(response, 401, { error: "Invalid credentials" });
    } else route(options, commit, request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    commit,
    requests,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function route(options: FakeHubOptions, commit: string, request: IncomingMessage, response: ServerResponse): void {
  const path = decodeURIComponent(new URL(request.url ?? "", "http://hub").pathname);
  const [, api, apiName, what, apiRevision = ""] = /^\/(api)\/models\/([^/]+\/[^/]+)\/(\w+)\/(.+)$/.exec(path) ?? [];
  const [, name, revision, file = ""] = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(path) ?? [];
  const known = apiRevision === commit || (options.revisions ?? ["main"]).includes(apiRevision);
  const content = options.files[file];
  if (api !== undefined && apiName === options.name && what === "revision" && known) {
    json(response, 200, { _id: "1", id: apiName, sha: commit, lastModified: "2026-01-01T00:00:00.000Z" });
  } else if (api !== undefined && apiName === options.name && what === "tree" && apiRevision === commit) {
    json(response, 200, entriesOf(options));
  } else if (name === options.name && revision === commit && content !== undefined) {
    send(request, response, content);
  } else json(response, 404, { error: "Repository not found" });
}

/** The tree listing: git's SHA-1 for small files, an `lfs` entry with SHA-256 for large ones, and a folder. */
function entriesOf({ files, large = (name) => name.endsWith(".safetensors") }: FakeHubOptions): unknown[] {
  const entries = Object.entries(files).map(([path, bytes]) => {
    const oid = createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");
    const lfs = { oid: createHash("sha256").update(bytes).digest("hex"), size: bytes.length, pointerSize: 130 };
    return { type: "file", path, size: bytes.length, oid, ...(large(path) ? { lfs } : {}) };
  });
  return [...entries, { type: "directory", path: "onnx", size: 0, oid: "0".repeat(40) }];
}

function send(request: IncomingMessage, response: ServerResponse, content: Uint8Array): void {
  const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? "") ?? [];
  const etag = `"${createHash("sha1").update(content).digest("hex")}"`;
  if (from === undefined || to === undefined) {
    response.writeHead(200, { "content-length": content.length, etag });
    response.end(content);
    return;
  }
  const part = content.subarray(Number(from), Number(to) + 1);
  response.writeHead(206, {
    "content-length": part.length,
    "content-range": `bytes ${from}-${to}/${content.length}`,
    etag,
  });
  response.end(part);
}

export function json(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}
