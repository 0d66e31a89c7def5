// Answers requests for a Site: GET and HEAD of its addresses, from this machine's browsers only.
import { constants } from "node:fs";
import { open, realpath } from "node:fs/promises";
import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import { pipeline } from "node:stream/promises";
import { CDN } from "./browser-runtime.ts";
import type { Resource, Site } from "./site.ts";

/**
 * Cross-origin isolation gives the page shared memory, which WebAssembly threads and the stop button need. Nothing but
 * this page may embed or read what is served. The CDN's copy of the library, where that is used, runs from a blob: a
 * worker's script must have the page's origin.
 */
function makeFixedHeaders(cdn: boolean): Record<string, string> {
  const [origin, blob] = cdn ? [` ${CDN}`, " blob:"] : ["", ""];
  return {
    "Content-Security-Policy": [
      "default-src 'none'",
      `script-src 'self' 'wasm-unsafe-eval'${origin}${blob}`,
      `worker-src 'self'${blob}`,
      `connect-src 'self'${origin}${blob}`,
      "style-src 'self'",
      "img-src data:",
      "base-uri 'none'",
      "form-action 'none'",
      "frame-ancestors 'none'",
    ].join("; "),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    // Browsers keep what they have and ask each time whether it is still so (ETag).
    "Cache-Control": "no-cache",
  };
}

/**
 * The addresses are keys of a map: no path is made from what a client sends. A Host other than this machine's own is a
 * page of another site whose name was made to point here (DNS rebinding).
 */
export function makeRequestListener(site: Site, { cdn, port }: { cdn: boolean; port: () => number }): RequestListener {
  const headers = makeFixedHeaders(cdn);
  return (request, response) => {
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    if (!isOwnHost(request.headers.host, port())) return refuse(response, 403, "this address is not served here");
    if (request.method !== "GET" && request.method !== "HEAD") {
      response.setHeader("Allow", "GET, HEAD");
      return refuse(response, 405, "only GET and HEAD");
    }
    const resource = site.get((request.url ?? "").split("?", 1)[0] as string);
    if (!resource) return refuse(response, 404, "not found");
    // This fails when the client has gone, or a file changed while it was read: the connection ends either way.
    send(request, response, resource).catch(() => response.destroy());
  };
}

function isOwnHost(host: string | undefined, port: number): boolean {
  const [name, given = "80", ...rest] = (host ?? "").toLowerCase().split(":");
  return (name === "127.0.0.1" || name === "localhost") && given === String(port) && rest.length === 0;
}

function refuse(response: ServerResponse, status: number, text: string): void {
  const body = `${text}\n`;
  response.writeHead(status, {
    "Content-Type": "text/plain; charset=utf-8",
    "Content-Length": Buffer.byteLength(body),
  });
  response.end(response.req.method === "HEAD" ? undefined : body);
}

async function send(request: IncomingMessage, response: ServerResponse, resource: Resource): Promise<void> {
  response.setHeader("Content-Type", resource.type);
  if ("text" in resource) {
    response.setHeader("Content-Length", Buffer.byteLength(resource.text));
    response.end(request.method === "HEAD" ? undefined : resource.text);
    return;
  }
  // The path was without links when the site was made; one that has become a link since is gone.
  const { path } = resource;
  const real = await realpath(path).catch(() => null);
  const file = real === path ? await open(path, constants.O_RDONLY | constants.O_NOFOLLOW).catch(() => null) : null;
  if (!file) return refuse(response, 404, "not found");
  try {
    const { size, mtimeMs } = await file.stat();
    const tag = `"${size.toString(36)}-${Math.round(mtimeMs).toString(36)}"`;
    response.setHeader("ETag", tag);
    if (request.headers["if-none-match"] === tag) {
      response.writeHead(304).end();
      return;
    }
    response.setHeader("Content-Length", size);
    if (request.method === "HEAD" || size === 0) {
      response.end();
      return;
    }
    // `end` is given because a file that grows meanwhile must not send more than was announced.
    await pipeline(
      file.createReadStream({ start: 0, end: size - 1, autoClose: false, highWaterMark: 1 << 18 }),
      response,
    );
  } finally {
    await file.close();
  }
}
