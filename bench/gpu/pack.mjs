// Packs what a machine with a GPU and without a network needs to run bench/gpu/run.sh: Node, ONNX Runtime, nfc. Into .gpu/.
// Usage: npm run build && node bench/gpu/pack.mjs
import { execFile, spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const LIMIT = 64 * 2 ** 20;
const root = fileURLToPath(new URL("../..", import.meta.url));
const folder = join(root, ".gpu");
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder);

/** Addresses in x86 code are made alike before they are packed: 7 % less for Node. */
async function pack(name, from, ...paths) {
  const file = join(folder, `${name}.tar.xz`);
  const env = { ...process.env, XZ_OPT: "--x86 --lzma2=preset=9e" };
  await promisify(execFile)("tar", ["-cJhf", file, "-C", from, ...paths], { env });
  console.log(`${name} ${(statSync(file).size / 2 ** 20).toFixed(1)} MiB`);
}

/** Node without its symbols, where `strip` is installed. Gives the folder it lies in. */
function copyNode() {
  const copy = join(folder, "node");
  copyFileSync(process.execPath, copy);
  const { error, status } = spawnSync("strip", [copy], { stdio: "inherit" });
  if (error || status !== 0) console.log("node is packed with its symbols");
  return folder;
}

/** The packages that nfc installs, without those of its development. */
function listProduction() {
  const { packages } = JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"));
  const names = Object.entries(packages).flatMap(([path, { dev }]) => {
    const name = path.replace(/^node_modules\//, "");
    return dev || name === "" || name.includes("/node_modules/") || name === "onnxruntime-node" ? [] : [name];
  });
  return names.filter((name) => existsSync(join(root, "node_modules", name)));
}

const runtime = ["package.json", "dist", "bin/napi-v6/linux/x64"].map((path) => join("onnxruntime-node", path));
await Promise.all([
  pack("node", copyNode(), "node"),
  pack("nfc", root, "dist", "bin", "assets", "package.json", "bench", "fixtures"),
  pack("deps", join(root, "node_modules"), ...listProduction()),
  pack("onnxruntime", join(root, "node_modules"), ...runtime),
]);
rmSync(join(folder, "node"));
const bytes = readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
console.log(`${(bytes / 2 ** 20).toFixed(1)} MiB in all`);
if (bytes > LIMIT) throw new Error("the bundle is above 64 MiB");
