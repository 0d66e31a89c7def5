// Work that runs beside other work: it ends with it, and no fault is lost or counts as unhandled.
import { once } from "node:events";
import { expect, it } from "vitest";
import { settleAll, withBackground } from "../../src/io/settle.ts";

/** Runs until its signal fires, and then for a moment more. */
async function runUntil(signal: AbortSignal, ended: string[], name: string): Promise<string> {
  if (!signal.aborted) await once(signal, "abort");
  await new Promise((resolve) => setTimeout(resolve, 5));
  ended.push(name);
  return name;
}

it("work in the background ends with what it runs beside, and is waited for", async () => {
  const ended: string[] = [];
  const begin = (signal: AbortSignal) => [runUntil(signal, ended, "hash"), Promise.resolve(7)] as const;
  const result = await withBackground(undefined, begin, async ([, number]) => 6 * (await number));
  expect(result).toBe(42);
  expect(ended).toEqual(["hash"]);
});

it("a fault ends the work in the background, and the first fault is the one that is told", async () => {
  const ended: string[] = [];
  const failLate = async (signal: AbortSignal) => {
    await runUntil(signal, ended, "hash");
    throw new Error("late");
  };
  const begin = (signal: AbortSignal) => [failLate(signal)] as const;
  const failing = withBackground(undefined, begin, async () => {
    await Promise.resolve();
    throw new Error("first");
  });
  await expect(failing).rejects.toThrow("first");
  expect(ended).toEqual(["hash"]);
});

it("a fault in the background ends what runs beside it, and is the one that is told", async () => {
  const ended: string[] = [];
  const begin = () => [Promise.reject(new Error("first"))] as const;
  const running = withBackground(undefined, begin, async (_, signal) => {
    await runUntil(signal, ended, "used");
    throw new Error("interrupted");
  });
  await expect(running).rejects.toThrow("first");
  expect(ended).toEqual(["used"]);
  const awaited = withBackground(undefined, begin, async ([fault]) => fault);
  await expect(awaited).rejects.toThrow("first");
});

it("both see the signal from outside", async () => {
  const outer = new AbortController();
  const ended: string[] = [];
  const running = withBackground(
    outer.signal,
    (signal) => [runUntil(signal, ended, "beside")] as const,
    async (_, signal) => runUntil(signal, ended, "used"),
  );
  outer.abort();
  expect(await running).toBe("used");
  expect(ended.sort()).toEqual(["beside", "used"]);
});

it("all results are there once nothing runs any more", async () => {
  const ended: string[] = [];
  const late = runUntil(AbortSignal.abort(), ended, "late");
  await expect(settleAll([late, Promise.reject(new Error("fault"))])).rejects.toThrow("fault");
  expect(ended).toEqual(["late"]);
});
