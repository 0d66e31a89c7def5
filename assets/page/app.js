// The page: what is shown and asked. The model runs in worker.js. Names from files go in as text only.
import { choose, DEVICES, findDefault, findObstacle, nameFile, readAdapter } from "/choose-device.js";

const at = (id) => document.getElementById(id);
const show = (id, text) => {
  at(id).textContent = text;
};

/**
 * What the server tells of the model; the browser's adapter; the device and the file in use; the worker that has loaded
 * the file, and what it is doing.
 */
const state = {
  ...{ info: null, adapter: null, device: "wasm", file: null },
  ...{ worker: null, stop: null, busy: false, seed: 0 },
};

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
const seconds = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

function millions(count) {
  if (count >= 1e6) return `${(count / 1e6).toFixed(1)} million`;
  return count.toLocaleString("en");
}

async function start() {
  const response = await fetch("/model.json");
  if (!response.ok) throw new Error("The server does not answer: is nfc serve still running?");
  const info = await response.json();
  state.info = info;
  document.title = `${info.name} · nfc`;
  show("name", info.name);
  show(
    "facts",
    [
      info.attention === null ? "dense GPT-2" : `${info.variant}, ${info.attention}`,
      `${millions(info.parameters)} parameters`,
      `${info.layers} layers of ${info.heads} heads, ${info.width} wide`,
      `reads ${info.positions} tokens`,
    ].join(" · "),
  );
  show(
    "about",
    `Runs in this browser with transformers.js ${info.library.version}; no text leaves it. nfc ${info.nfc}`,
  );
  at("tokens").max = info.positions;
  if (!self.crossOriginIsolated)
    throw new Error("This browser gives the page no shared memory, which the model needs. Use a current one.");
  state.adapter = await readAdapter(navigator.gpu);
  fillDevices();
  const asked = new URLSearchParams(location.search);
  loadModel(choose({ device: asked.get("device"), dtype: asked.get("dtype") }, state.adapter, info));
}

const label = ({ precision, bytes }) => `${precision} · ${megabytes(bytes)}`;

/** The devices, of which WebGPU can be chosen where one of the files runs on it. */
function fillDevices() {
  for (const [device, name] of Object.entries(DEVICES)) {
    const obstacles = state.info.precisions.map((file) => findObstacle(file, device, state.adapter));
    const runs = obstacles.includes(null);
    const option = new Option(runs ? name : `${name}: not here`, device);
    option.disabled = !runs;
    option.title = runs ? "" : obstacles[0];
    at("device").add(option);
  }
}

/** The files, of which those can be chosen that run on the device. */
function fillPrecisions() {
  const options = state.info.precisions.map((file) => {
    const obstacle = findObstacle(file, state.device, state.adapter);
    const option = new Option(obstacle === null ? label(file) : `${file.precision}: needs shader-f16`, file.precision);
    option.disabled = obstacle !== null;
    option.title = obstacle ?? "";
    return option;
  });
  at("precision").replaceChildren(...options);
}

/** Takes what the user has chosen, which stands in the address from then on. */
function changeModel(device, file) {
  const asked = { device, dtype: nameFile(file) };
  history.replaceState(null, "", `?${new URLSearchParams(asked)}`);
  loadModel(choose(asked, state.adapter, state.info));
}

/** Starts over with a new worker: only that gives WebAssembly's memory back. */
function loadModel({ device, file, why, notes }) {
  state.worker?.terminate();
  Object.assign(state, { device, file });
  fillPrecisions();
  at("device").value = device;
  at("precision").value = file.precision;
  showNotes(notes);
  show("why", why);
  at("why").hidden = false;
  state.stop = new Int32Array(new SharedArrayBuffer(4));
  state.worker = new Worker("/worker.js", { type: "module" });
  state.worker.onmessage = ({ data }) => answers[data.type](data);
  state.worker.onerror = (event) =>
    fail(event.message || "The thread of the model does not start. Is nfc serve still running?");
  setBusy(false);
  setReady(false);
  at("error").hidden = true;
  at("progress").value = 0;
  at("progress").classList.remove("idle");
  show("status", `Loading ${label(file)}`);
  state.loadStart = performance.now();
  state.worker.postMessage({ type: "load", info: state.info, file, device, stop: state.stop });
}

const answers = {
  progress({ done, total }) {
    at("progress").value = done / total;
    const { precision } = state.file;
    show(
      "status",
      done < total ? `Loading ${precision}: ${megabytes(done)} of ${megabytes(total)}` : `Preparing ${precision}`,
    );
  },
  ready({ threads }) {
    at("progress").classList.add("idle");
    const took = seconds(performance.now() - state.loadStart);
    const where = state.device === "webgpu" ? "on WebGPU" : `${threads} thread${threads === 1 ? "" : "s"}`;
    show("status", `${state.file.precision} is ready, loaded in ${took}, ${where}`);
    setReady(true);
  },
  text({ text }) {
    at("written").append(text);
  },
  token: showFigures,
  done(figures) {
    showFigures(figures);
    setBusy(false);
    const drawn = at("temperature").valueAsNumber > 0 ? `, drawn with seed ${state.seed}` : "";
    show("status", `${REASONS[figures.reason]}${drawn}`);
  },
  error({ message, refusal }) {
    if (state.device === "webgpu" && !refusal) fallBack(message);
    else fail(message);
  },
};

/** Loads the model in WebAssembly after WebGPU has failed, and says so. */
function fallBack(message) {
  const wasBusy = state.busy;
  const why = "WebAssembly, as WebGPU failed";
  const file = findDefault("wasm", state.adapter, state.info);
  const notes = [`WebGPU failed${wasBusy ? " while it generated" : ""}: ${message}`];
  loadModel({ device: "wasm", file, why, notes });
}

const REASONS = {
  stopped: "Stopped",
  end: "The model ended the text",
  length: "Done: as many tokens as asked for",
  positions: "Ended: the model reads no more tokens",
};

/** Times in ms since the start; the rate leaves the prompt's time out. */
function showFigures({ count, first, last }) {
  show("count", String(count));
  show("first", count > 0 ? seconds(first) : "–");
  show("speed", count > 1 ? ((1000 * (count - 1)) / (last - first)).toFixed(1) : "–");
}

function generate() {
  if (at("generate").disabled || !at("form").reportValidity()) return;
  Atomics.store(state.stop, 0, 0);
  at("error").hidden = true;
  show("given", at("prompt").value);
  show("written", "");
  showFigures({ count: 0 });
  show("status", "Generating");
  setBusy(true);
  const number = (id) => at(id).valueAsNumber;
  const given = number("seed");
  state.seed = Number.isNaN(given) ? Math.floor(Math.random() * 2 ** 24) : given;
  state.worker.postMessage({
    type: "generate",
    prompt: at("prompt").value,
    maxNewTokens: number("tokens"),
    temperature: number("temperature"),
    topK: number("top-k"),
    topP: number("top-p"),
    seed: state.seed,
  });
}

function stop() {
  if (state.busy) Atomics.store(state.stop, 0, 1);
}

function setReady(ready) {
  at("generate").disabled = !ready;
}

function setBusy(busy) {
  const focused = document.activeElement;
  state.busy = busy;
  setReady(!busy);
  at("stop").disabled = !busy;
  // A button that is disabled would lose the focus to nothing.
  if (focused === at("generate") && busy) at("stop").focus();
  if (focused === at("stop") && !busy) at("generate").focus();
  at("text").setAttribute("aria-busy", String(busy));
}

/** Each note as a line of its own. */
function showNotes(notes) {
  show("notice", notes.join("\n"));
  at("notice").hidden = notes.length === 0;
}

function fail(message) {
  const wasBusy = state.busy;
  setBusy(false);
  setReady(wasBusy);
  at("progress").classList.add("idle");
  show("status", wasBusy ? "Not generated" : "Not loaded");
  show("error", message);
  at("error").hidden = false;
}

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  generate();
});
at("stop").addEventListener("click", stop);
at("device").addEventListener("change", () => {
  const device = at("device").value;
  const here = state.info.precisions.filter((file) => findObstacle(file, device, state.adapter) === null);
  changeModel(device, findDefault(device, state.adapter, state.info) ?? here[0]);
});
at("precision").addEventListener("change", () => {
  changeModel(
    state.device,
    state.info.precisions.find(({ precision }) => precision === at("precision").value),
  );
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) generate();
  if (event.key === "Escape") stop();
});
start().catch((error) => fail(error.message));
