// Requests to the server of nfc serve: whatever bytes arrive, it answers or ends the connection, and serves the next.
import { connect } from "node:net";
import { join } from "node:path";
import { serve } from "../../src/serve/serve.ts";
import { copyModels } from "./models.ts";
import { MAX_SECONDS } from "./run-target.ts";
import type { Target } from "./target.ts";

/** A request that is not whole has no answer: the connection is closed after this time. */
const PATIENCE_MS = 20;
/** Stands for the server's own port, so that inputs do not depend on it. */
const PORT = "65432";
const HOST = `Host: 127.0.0.1:${PORT}\r\n`;
const REQUESTS = [
  `GET / HTTP/1.1\r\n${HOST}Accept: */*\r\n\r\n`,
  `HEAD /model/config.json?x=1 HTTP/1.1\r\n${HOST}If-None-Match: "a-b"\r\nConnection: close\r\n\r\n`,
  `POST /../../etc/passwd HTTP/1.1\r\n${HOST}Content-Length: 3\r\n\r\nabc`,
  `GET /model/onnx/model.onnx HTTP/1.0\r\n${HOST}Range: bytes=0-10\r\n\r\nGET / HTTP/1.1\r\n${HOST}\r\n`,
];

/** Sends bytes and gives the answer, which ends when the connection is closed, or nothing has come for `idleMs`. */
function send(port: number, bytes: Uint8Array, idleMs: number): Promise<string> {
  return new Promise((resolve) => {
    let answer = "";
    const socket = connect(port, "127.0.0.1", () => socket.write(bytes));
    socket.setTimeout(idleMs, () => socket.destroy());
    socket.on("data", (piece) => {
      answer += piece.toString("latin1").slice(0, 100);
    });
    socket.on("error", () => {}); // the server may end a connection in the middle
    socket.on("close", () => resolve(answer));
  });
}

export const REQUEST_TARGETS: readonly Target[] = [
  {
    ...{ kind: "command", name: "serve-requests", format: "lines" },
    async prepare(folder) {
      await copyModels(folder);
      const { port } = await serve(join(folder, "onnx"), { port: 0 });
      const request = (text: Uint8Array) =>
        Buffer.from(Buffer.from(text).toString("latin1").replaceAll(PORT, String(port)), "latin1");
      const whole = Buffer.from(`GET / HTTP/1.1\r\n${HOST}Connection: close\r\n\r\n`);
      return {
        valid: REQUESTS.map((text) => Buffer.from(text)),
        async run(input) {
          const answer = await send(port, request(input), PATIENCE_MS);
          if (answer !== "" && !/^HTTP\/1\.1 [2-5]\d\d /.test(answer))
            return `answers ${JSON.stringify(answer.slice(0, 80))}`;
          const next = await send(port, request(whole), 1000 * MAX_SECONDS);
          return next.startsWith("HTTP/1.1 200 ")
            ? null
            : `does not serve the next request: ${JSON.stringify(next.slice(0, 80))}`;
        },
      };
    },
  },
];
