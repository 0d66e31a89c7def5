// Lets one chosen call to the file system fail or fall short, to see what a full or broken disk leaves behind.
import callbacks from "node:fs";
import promises from "node:fs/promises";
import { createRequire, syncBuiltinESMExports } from "node:module";
import { devNull } from "node:os";
import { isAbsolute, relative, resolve } from "node:path";

/** How a call can go wrong: with an error of the system, or by moving fewer bytes than it was asked for ("short"). */
export type Fault = string;

/** A call that was made under the folder that is watched, and the ways in which it can go wrong. */
export interface Call {
  name: string;
  faults: readonly Fault[];
}

export interface FaultPlan {
  /** Calls below this folder count, and can fail; all others pass. */
  under: string;
  /** Names of the calls that count; all unless given. */
  only?: readonly string[];
  /** The number of the call that fails, from 1; with 0, none does. */
  failing?: number;
  /** Chooses the fault of that call. */
  choose?: (call: Call) => Fault;
}

const LOOKING: readonly Fault[] = ["EIO", "EACCES"];
const OPENING: readonly Fault[] = ["EMFILE", "EACCES", "EIO"];
const CREATING: readonly Fault[] = ["ENOSPC", "EACCES", "EIO"];
const WRITING: readonly Fault[] = ["ENOSPC", "EMFILE", "EIO", "EACCES"];

/** Functions of node:fs/promises that take a path first. */
const BY_PATH: Record<string, readonly Fault[]> = {
  access: LOOKING,
  lstat: LOOKING,
  readlink: LOOKING,
  realpath: LOOKING,
  stat: LOOKING,
  statfs: LOOKING,
  open: [...OPENING, "ENOSPC"],
  opendir: OPENING,
  readdir: OPENING,
  readFile: OPENING,
  appendFile: WRITING,
  copyFile: WRITING,
  writeFile: WRITING,
  link: CREATING,
  mkdir: CREATING,
  mkdtemp: CREATING,
  rename: CREATING,
  symlink: CREATING,
  truncate: CREATING,
  rm: LOOKING,
  rmdir: LOOKING,
  unlink: LOOKING,
  utimes: LOOKING,
};
/** Methods of an open file. */
const BY_HANDLE: Record<string, readonly Fault[]> = {
  appendFile: ["ENOSPC", "EIO"],
  datasync: ["ENOSPC", "EIO"],
  read: ["EIO", "short"],
  readFile: ["EIO"],
  stat: ["EIO"],
  sync: ["ENOSPC", "EIO"],
  truncate: ["ENOSPC", "EIO"],
  write: ["ENOSPC", "EIO", "short"],
  writeFile: ["ENOSPC", "EIO"],
};
/** Functions of node:fs that wait for the system. */
const SYNCHRONOUS: Record<string, readonly Fault[]> = {
  lstatSync: LOOKING,
  openSync: [...OPENING, "ENOSPC"],
  readdirSync: OPENING,
  readFileSync: OPENING,
  realpathSync: LOOKING,
  statSync: LOOKING,
};

type AnyFunction = (this: unknown, ...args: unknown[]) => unknown;
type Functions = Record<string, AnyFunction>;

/**
 * Runs `action` while the call number `failing` goes wrong. Gives all calls that were made, the files that are still
 * open, what `action` returned, and the error that it ended with.
 */
export async function withFault<T>(
  plan: FaultPlan,
  action: () => Promise<T>,
): Promise<{ calls: Call[]; open: string[]; result?: T; error?: unknown }> {
  const watch = new Watch(plan);
  const restore = await watch.install();
  try {
    const result = await action();
    return { result, calls: watch.calls, open: [...watch.open.values()] };
  } catch (error) {
    return { error, calls: watch.calls, open: [...watch.open.values()] };
  } finally {
    restore();
  }
}

/** Calls that can meet a full disk, looking and removing left out: they are how a failure is cleaned up. */
const WRITES = ["mkdir", "open", "rename", "write", "writeFile", "sync"];

/** Runs `action` while the call number `failing` (from 1) of {@link WRITES}, anywhere, fails with `code`. */
export async function withWriteFault(
  failing: number,
  code: string,
  action: () => Promise<unknown>,
): Promise<{ calls: number; error: unknown }> {
  const { calls, error } = await withFault({ under: "/", only: WRITES, failing, choose: () => code }, action);
  return { calls: calls.length, error };
}

class Watch {
  readonly calls: Call[] = [];
  private readonly plan: FaultPlan;
  private readonly root: string;
  private readonly handles = new WeakSet<object>();
  /** Paths of the files that were opened and not closed. */
  readonly open = new Map<object, string>();
  private readonly descriptors = new Set<unknown>();

  constructor(plan: FaultPlan) {
    this.plan = plan;
    this.root = callbacks.realpathSync(plan.under);
  }

  /** Puts the shim in place; gives what takes it away. */
  async install(): Promise<() => void> {
    const probe = await promises.open(devNull, "r");
    const handle = Object.getPrototypeOf(probe) as Functions;
    await probe.close();
    const undo: (() => void)[] = [];
    const patch = (owner: object, name: string, make: (original: AnyFunction) => AnyFunction) => {
      const functions = owner as Functions;
      const original = functions[name];
      if (!original) throw new Error(`${name}: Node has no such function`);
      functions[name] = make(original);
      undo.push(() => {
        functions[name] = original;
      });
    };
    for (const name of Object.keys(BY_PATH)) patch(promises, name, (original) => this.byPath(name, original));
    for (const name of Object.keys(BY_HANDLE)) patch(handle, name, (original) => this.byHandle(name, original));
    const fs = createRequire(import.meta.url)("node:fs") as object;
    for (const name of Object.keys(SYNCHRONOUS)) patch(fs, name, (original) => this.synchronous(name, original));
    patch(fs, "existsSync", (original) => this.existence(original));
    patch(fs, "open", (original) => this.streamOpen(original));
    patch(fs, "read", (original) => this.streamRead(original));
    syncBuiltinESMExports();
    return () => {
      for (const step of undo) step();
      syncBuiltinESMExports();
    };
  }

  /** Counts a call; gives the fault that it meets, if it is the chosen one. */
  private count(name: string, faults: readonly Fault[]): Fault | undefined {
    const { only, failing, choose } = this.plan;
    if (only && !only.includes(name)) return undefined;
    this.calls.push({ name, faults });
    return this.calls.length === failing ? choose?.({ name, faults }) : undefined;
  }

  private isWatched(path: unknown): boolean {
    if (typeof path !== "string" && !(path instanceof URL) && !Buffer.isBuffer(path)) return false;
    const below = relative(this.root, resolve(path.toString()));
    return !below.startsWith("..") && !isAbsolute(below);
  }

  private byPath(name: string, original: AnyFunction): AnyFunction {
    const watch = this;
    return async function (this: unknown, ...args) {
      const paths = ["rename", "copyFile", "link", "symlink"].includes(name) ? args.slice(0, 2) : args.slice(0, 1);
      if (!paths.some((path) => watch.isWatched(path))) return original.apply(this, args);
      const fault = watch.count(name, BY_PATH[name] as readonly Fault[]);
      if (fault !== undefined) {
        // A file that could be written in part stays there in part.
        if (name === "writeFile" && fault !== "EACCES" && fault !== "EMFILE")
          await original.apply(this, [args[0], halve(args[1]), ...args.slice(2)]);
        throw makeError(fault, name, args[0]);
      }
      const result = await original.apply(this, args);
      return name === "open" ? watch.follow(result as Functions, String(args[0])) : result;
    };
  }

  /** Counts the calls of an open file from now on. Its `close` is no method of the prototype. */
  private follow(handle: Functions, path: string): Functions {
    this.handles.add(handle);
    this.open.set(handle, path);
    const close = handle.close as AnyFunction;
    handle.close = async () => {
      const fault = this.count("close", ["ENOSPC", "EIO"]);
      this.open.delete(handle);
      await close.call(handle);
      if (fault !== undefined) throw makeError(fault, "close");
    };
    return handle;
  }

  private byHandle(name: string, original: AnyFunction): AnyFunction {
    const watch = this;
    return async function (this: unknown, ...args) {
      if (!watch.handles.has(this as object)) return original.apply(this, args);
      const fault = watch.count(name, BY_HANDLE[name] as readonly Fault[]);
      if (fault === undefined) return original.apply(this, args);
      if (fault === "short") return original.apply(this, shorten(args));
      throw makeError(fault, name);
    };
  }

  private synchronous(name: string, original: AnyFunction): AnyFunction {
    const watch = this;
    return function (this: unknown, ...args) {
      if (!watch.isWatched(args[0])) return original.apply(this, args);
      const fault = watch.count(name, SYNCHRONOUS[name] as readonly Fault[]);
      if (fault !== undefined) throw makeError(fault, name, args[0]);
      return original.apply(this, args);
    };
  }

  /** `existsSync` hides every error: it says that nothing is there. */
  private existence(original: AnyFunction): AnyFunction {
    const watch = this;
    return function (this: unknown, ...args) {
      if (!watch.isWatched(args[0])) return original.apply(this, args);
      return watch.count("existsSync", LOOKING) === undefined ? original.apply(this, args) : false;
    };
  }

  private streamOpen(original: AnyFunction): AnyFunction {
    const watch = this;
    return function (this: unknown, ...args) {
      if (!watch.isWatched(args[0])) return original.apply(this, args);
      const done = args.pop() as (error: unknown, descriptor?: number) => void;
      const fault = watch.count("open", OPENING);
      if (fault !== undefined) return setImmediate(done, makeError(fault, "open", args[0]));
      return original.call(this, ...args, (error: unknown, descriptor: number) => {
        if (!error) watch.descriptors.add(descriptor);
        done(error, descriptor);
      });
    };
  }

  private streamRead(original: AnyFunction): AnyFunction {
    const watch = this;
    return function (this: unknown, ...args) {
      if (!watch.descriptors.has(args[0])) return original.apply(this, args);
      const fault = watch.count("read", ["EIO", "short"]);
      if (fault === undefined) return original.apply(this, args);
      if (fault === "short") return original.call(this, args[0], ...shorten(args.slice(1)));
      return setImmediate(args.at(-1) as (error: unknown) => void, makeError(fault, "read"));
    };
  }
}

function makeError(code: Fault, syscall: string, path?: unknown): Error {
  return Object.assign(new Error(`${code}: injected, ${syscall} '${path}'`), { code, syscall, path });
}

/** Halves the number of bytes of read(buffer, offset, length, …) and write(buffer, offset, length, …); at least one stays. */
function shorten(args: readonly unknown[]): unknown[] {
  const [buffer, second, ...rest] = args;
  if (!(ArrayBuffer.isView(buffer) && typeof second === "number" && typeof rest[0] === "number"))
    throw new Error("only calls with a buffer, an offset and a length can be shortened");
  return [buffer, second, Math.ceil(rest[0] / 2), ...rest.slice(1)];
}

function halve(data: unknown): unknown {
  if (typeof data === "string") return data.slice(0, data.length / 2);
  if (ArrayBuffer.isView(data)) return Buffer.from(data.buffer, data.byteOffset, data.byteLength >> 1);
  throw new Error("only text and bytes can be written in part");
}
