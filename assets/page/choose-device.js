// Chooses where the model runs and with which file: WebGPU where the browser has an adapter for it, else WebAssembly.

export const DEVICES = { webgpu: "WebGPU", wasm: "WebAssembly" };

/** The browser's graphics adapter: its name, whether it has 16-bit floats, whether it is software; null without one. */
export async function readAdapter(gpu) {
  const adapter = await gpu?.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
  if (!adapter) return null;
  const { vendor, architecture, description, isFallbackAdapter = adapter.isFallbackAdapter } = adapter.info ?? {};
  const words = [vendor, architecture].filter((word) => word).join(" ");
  return {
    name: description || words || "an adapter without a name",
    half: adapter.features.has("shader-f16"),
    software: isFallbackAdapter === true,
  };
}

/** Why a file does not run on a device of this browser; null where it does. */
export function findObstacle(file, device, adapter) {
  if (device === "wasm") return null;
  if (!adapter) return "this browser has no WebGPU adapter";
  if (!file) return "no file of this model is one for this WebGPU adapter";
  if (!file.halfFloats || adapter.half) return null;
  const advice = file.webgpuAdvice === null ? "" : `; ${file.webgpuAdvice}`;
  return `the WebGPU adapter has no 16-bit floats (shader-f16), which ${file.precision} needs${advice}`;
}

/** The word for a file in the address: transformers.js's dtype, or the precision of a file that has none of its own. */
export const nameFile = ({ precision, dtype, name }) => (name ? precision : dtype);

/** The file for a device without a choice of the user's; undefined where none is for it. */
export function findDefault(device, adapter, { precisions, preferred }) {
  const name = device === "wasm" ? preferred.wasm : preferred.webgpu[adapter?.half ? "half" : "full"];
  return precisions.find(({ precision }) => precision === name);
}

/**
 * @param asked device and dtype by the names of transformers.js (or the precision by nfc's), null for no choice
 * @param adapter as `readAdapter` gives it
 * @returns the device, the file, why in words, and what else the user should know: of the choice, and of the files
 */
export function choose(asked, adapter, info) {
  const { device, named, notes } = readChoice(asked, info);
  const older = info.precisions.filter(({ halfFloats, webgpuAdvice }) => halfFloats && webgpuAdvice !== null);
  const suited = findDefault("webgpu", adapter, info);
  const obstacle = findObstacle(named ?? suited ?? older[0], "webgpu", adapter);
  const onWebGpu = (file, reason) => {
    if (adapter.half === false) notes.push(...older.map((other) => findObstacle(other, "webgpu", adapter)));
    if (file.webgpuAdvice !== null && !file.halfFloats) notes.push(file.webgpuAdvice);
    return { device: "webgpu", file, why: `WebGPU on ${adapter.name}, ${reason}`, notes: [...new Set(notes)] };
  };
  const inWasm = (reason) => {
    const file = named ?? findDefault("wasm", adapter, info);
    return { device: "wasm", file, why: `WebAssembly, ${reason}`, notes };
  };
  if (device === "wasm") return inWasm("as chosen");
  if (device === "webgpu" && obstacle === null) return onWebGpu(named ?? suited, "as chosen");
  if (device === "webgpu") notes.push(obstacle);
  if (device === "webgpu" && adapter && suited) return onWebGpu(suited, "as chosen");
  if (obstacle !== null) return inWasm(`as ${obstacle}`);
  if (adapter.software) return inWasm(`as this browser's WebGPU adapter, ${adapter.name}, is software`);
  if (named?.webgpuAdvice) return inWasm(`as ${named.webgpuAdvice}`);
  return onWebGpu(named ?? suited, `which has ${adapter.half ? "" : "no "}16-bit floats (shader-f16)`);
}

/** The device and the file that are asked for, where there are such, and a note where there are not. */
function readChoice({ device, dtype }, { precisions }) {
  const notes = [];
  const known = device !== null && Object.hasOwn(DEVICES, device);
  if (device !== null && !known) notes.push(`device=${device} is none of ${Object.keys(DEVICES).join(", ")}`);
  const named =
    precisions.find((file) => nameFile(file) === dtype) ?? precisions.find(({ precision }) => precision === dtype);
  if (dtype !== null && !named) notes.push(`dtype=${dtype} is none of ${precisions.map(nameFile).join(", ")}`);
  return { device: known ? device : null, named, notes };
}
