// Packs what a machine with a GPU and without a network needs to run bench/gpu/run.sh: Node, ONNX Runtime, nfc. Into .gpu/.
// Usage: npm run build && node bench/gpu/pack.mjs
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const LIMIT = 64 * 2 ** 20;
const root = fileURLToPath(new URL("../..", import.meta.url));
const folder = join(root, ".gpu");
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder);

function pack(name, from, ...paths) {
  const file = join(folder, `${name}.tar.xz`);
  execFileSync("tar", ["-cJhf", file, "-C", from, ...paths], { env: { ...process.env, XZ_OPT: "-6 -T0" } });
  console.log(`${name} ${(statSync(file).size / 2 ** 20).toFixed(1)} MiB`);
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

pack("node", dirname(process.execPath), "node");
pack("nfc", root, "dist", "bin", "assets", "package.json", "bench", "fixtures");
pack("deps", join(root, "node_modules"), ...listProduction());
const runtime = ["package.json", "dist", "bin/napi-v6/linux/x64"].map((path) => join("onnxruntime-node", path));
pack("onnxruntime", join(root, "node_modules"), ...runtime);
const bytes = readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
console.log(`${(bytes / 2 ** 20).toFixed(1)} MiB in all`);
if (bytes > LIMIT) throw new Error("the bundle is above 64 MiB");
