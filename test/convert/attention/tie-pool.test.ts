// Ties spread over worker threads, with the sources compiled to a temporary folder.
import { writeFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { tieLayer } from "../../../src/convert/attention/tie.ts";
import { TiePool } from "../../../src/convert/attention/tie-pool.ts";
import { compileSources } from "../../support/compiled-cli.ts";
import { failureOf } from "../../support/failure.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";
import { randomLayer } from "./layer-input.ts";

const at = temporaryFolder("tie-pool");
const compiled = pathToFileURL(at("dist", "convert", "attention", "tie-worker.js"));

beforeAll(async () => {
  await compileSources(at());
});

const pools: TiePool[] = [];
afterEach(() => Promise.all(pools.splice(0).map((pool) => pool.close())));

function poolOf(worker: URL, threads = 2): TiePool {
  const pool = new TiePool({ threads, worker });
  pools.push(pool);
  return pool;
}

/** A worker of our own; `parentPort` is at hand. */
async function workerOf(name: string, body: string): Promise<URL> {
  await writeFile(at(name), `import { parentPort } from "node:worker_threads";\n${body}`);
  return pathToFileURL(at(name));
}

describe("tying in workers", () => {
  test.each([2, 3, 4, 8])("%i threads give the bytes of a tie in the calling thread", async (threads) => {
    const pool = poolOf(compiled, threads);
    for (const strategy of ["calibrated", "spectral"] as const) {
      const input = randomLayer({ strategy, ...(strategy === "spectral" && { inputs: null }) });
      expect(await pool.tie(input)).toEqual(tieLayer(input));
    }
  });

  test("workers serve one layer after another, with and without biases", async () => {
    const pool = poolOf(compiled);
    for (let seed = 1; seed <= 3; seed++) {
      const input = randomLayer({ seed, bare: seed === 2, n_embd: 15, n_head: 5 });
      expect(await pool.tie(input)).toEqual(tieLayer(input));
    }
  });

  test("an NfcError in a worker rejects the tie as an NfcError with its hint", async () => {
    const input = randomLayer();
    input.qWeight[10] = Number.NaN; // head 3
    const { code, message, hint } = await failureOf(() => poolOf(compiled).tie(input));
    expect([code, message, hint]).toEqual([
      "invalid-file",
      "head 3: Q or K is not finite",
      "the checkpoint is damaged",
    ]);
  });

  test("workers are replaced after a fault, and no late answer reaches the next layer", async () => {
    const pool = poolOf(compiled);
    const broken = randomLayer({ seed: 2 });
    broken.qWeight[0] = Number.NaN; // the first lane faults at once; the second works on
    await failureOf(() => pool.tie(broken));
    const input = randomLayer({ seed: 3 });
    expect(await pool.tie(input)).toEqual(tieLayer(input));
  });

  test("workers that throw reject the tie with what they threw", async () => {
    const worker = await workerOf("throws.js", 'parentPort.on("message", () => { throw new RangeError("a bug"); });');
    await expect(poolOf(worker).tie(randomLayer())).rejects.toThrow(new RangeError("a bug"));
  });

  test("workers that exit reject the tie with their exit code", async () => {
    const worker = await workerOf("exits.js", 'parentPort.on("message", () => process.exit(7));');
    await expect(poolOf(worker).tie(randomLayer())).rejects.toThrow("a tie worker ended with code 7");
  });

  test("workers that cannot start reject the tie", async () => {
    const worker = await workerOf("broken.js", "this is no JavaScript");
    await expect(poolOf(worker).tie(randomLayer())).rejects.toThrow(SyntaxError);
  });
});

describe("aborting a tie in workers", () => {
  test("an abort while workers are busy rejects at once, and the pool closes", async () => {
    const worker = await workerOf("hangs.js", 'parentPort.on("message", () => { for (;;); });');
    const pool = poolOf(worker);
    const stop = new AbortController();
    const failure = failureOf(() => pool.tie(randomLayer(), { signal: stop.signal }));
    setTimeout(() => stop.abort(), 50);
    expect((await failure).code).toBe("aborted");
    await pool.close();
  });

  test("an abort before the tie rejects it", async () => {
    const failure = await failureOf(() => poolOf(compiled).tie(randomLayer(), { signal: AbortSignal.abort() }));
    expect(failure.code).toBe("aborted");
  });

  test("an abort of one layer lets the next one through unharmed", async () => {
    const pool = poolOf(compiled);
    const stop = new AbortController();
    const failure = failureOf(() => pool.tie(randomLayer({ seed: 5 }), { signal: stop.signal }));
    stop.abort();
    await failure;
    const input = randomLayer({ seed: 6 });
    expect(await pool.tie(input)).toEqual(tieLayer(input));
  });

  test("a finished tie leaves no listener on the abort signal", async () => {
    const { signal } = new AbortController();
    const [added, removed]: [unknown[], unknown[]] = [[], []];
    const watched = Object.assign(Object.create(signal) as AbortSignal, {
      addEventListener: (_: string, listener: unknown) => added.push(listener),
      removeEventListener: (_: string, listener: unknown) => removed.push(listener),
    });
    await poolOf(compiled).tie(randomLayer(), { signal: watched });
    expect(added.length).toBe(2);
    expect(removed).toEqual(expect.arrayContaining(added));
  });
});

describe("tying in the calling thread", () => {
  const trap = () => workerOf("trap.js", 'parentPort.on("message", () => process.exit(1));');

  test("one thread ties without a worker", async () => {
    const input = randomLayer();
    expect(await poolOf(await trap(), 1).tie(input)).toEqual(tieLayer(input));
  });

  test("a pool without a compiled worker ties in the calling thread", async () => {
    const input = randomLayer();
    expect(await poolOf(pathToFileURL(at("missing.js"))).tie(input)).toEqual(tieLayer(input));
  });
});
