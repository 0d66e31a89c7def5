// Memories of WebAssembly, and the kernels of a module that work in one.

/** The part of the WebAssembly API that is used here; TypeScript declares it for browsers only. */
declare namespace WebAssembly {
  class Memory {
    constructor(limits: { initial: number; maximum: number });
    readonly buffer: ArrayBuffer;
  }
  class Module {
    constructor(bytes: Uint8Array);
  }
  class Instance {
    constructor(module: Module, imports: { env: { memory: Memory } });
    readonly exports: object;
  }
}

export type WasmMemory = WebAssembly.Memory;

export const PAGE_BYTES = 65_536;

/** Compiled modules by their base64: each is instantiated for several memories. */
const modules = new Map<string, WebAssembly.Module>();

/** A memory of at least so many bytes, which never grows. @throws RangeError where there is not so much address space */
export function makeMemory(bytes: number): WasmMemory {
  const pages = Math.ceil(bytes / PAGE_BYTES);
  return new WebAssembly.Memory({ initial: pages, maximum: pages });
}

/** The functions that a module exports, working in `memory`: addresses are bytes of it. */
export function openKernels<Kernels>(base64: string, memory: WasmMemory): Kernels {
  const module = modules.get(base64) ?? new WebAssembly.Module(Buffer.from(base64, "base64"));
  modules.set(base64, module);
  return new WebAssembly.Instance(module, { env: { memory } }).exports as Kernels;
}
