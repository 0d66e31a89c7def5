// Lets one chosen call to the file system fail, to see what a full disk or a broken one leaves behind.
import fs from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { devNull } from "node:os";

type AnyFunction = (...args: unknown[]) => unknown;

/** Calls that can meet a full or broken disk. Looking and removing are left out: they are how a failure is cleaned up. */
const FOLDER_CALLS = ["mkdir", "open", "rename"] as const;
const HANDLE_CALLS = ["write", "writeFile", "sync"] as const;

/**
 * Runs `action` while the call number `failing` (from 1) of those above fails with `code`. Tells how many calls there
 * were, and the error that `action` ended with.
 */
export async function withFault(
  failing: number,
  code: string,
  action: () => Promise<unknown>,
): Promise<{ calls: number; error: unknown }> {
  let calls = 0;
  const guard = (call: AnyFunction): AnyFunction =>
    function (this: unknown, ...args) {
      if (++calls === failing) return Promise.reject(Object.assign(new Error(`${code}: injected`), { code }));
      return call.apply(this, args);
    };
  const restore = await patch(guard);
  try {
    await action();
    return { calls, error: undefined };
  } catch (error) {
    return { calls, error };
  } finally {
    restore();
  }
}

async function patch(guard: (call: AnyFunction) => AnyFunction): Promise<() => void> {
  const probe = await fs.open(devNull, "r");
  const handle = Object.getPrototypeOf(probe) as Record<string, AnyFunction>;
  await probe.close();
  const module = fs as unknown as Record<string, AnyFunction>;
  const patched = [
    ...FOLDER_CALLS.map((name) => ({ owner: module, name, original: module[name] as AnyFunction })),
    ...HANDLE_CALLS.map((name) => ({ owner: handle, name, original: handle[name] as AnyFunction })),
  ];
  for (const { owner, name, original } of patched) owner[name] = guard(original);
  syncBuiltinESMExports();
  return () => {
    for (const { owner, name, original } of patched) owner[name] = original;
    syncBuiltinESMExports();
  };
}
