// Writes outputs until it is killed. Arguments: compiled folder, target, mode, the call at which to kill itself (0: never).
import { readFileSync } from "node:fs";
import fs from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { devNull } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [compiled, target, mode, killAt] = process.argv.slice(2);
const probe = await fs.open(devNull);
const handle = Object.getPrototypeOf(probe);
await probe.close();
let calls = 0;

/** Every call that changes the disk counts; the one before which to die is chosen from outside. */
function count(owner, name) {
  const original = owner[name];
  owner[name] = function (...args) {
    if (++calls === Number(killAt)) process.kill(process.pid, "SIGKILL");
    return original.apply(this, args);
  };
}
for (const name of ["mkdir", "open", "rename", "rm", "rmdir"]) count(fs, name);
for (const name of ["write", "writeFile", "sync"]) count(handle, name);
syncBuiltinESMExports();

const load = (name) => import(pathToFileURL(join(compiled, "dist", name)).href);
const { stageDirectory, writeFileAtomic } = await load("io/staging.js");
const { makeBytesSource, writeSafetensors } = await load("formats/safetensors/writer.js");

/** An output is whole when every byte of every file is the same version. */
async function writeFolder(version) {
  const staged = await stageDirectory(target, { force: true });
  const bytes = new Uint8Array(3_000_000).fill(version);
  const tensors = ["a", "b"].map((name) => makeBytesSource(name, "U8", [bytes.length], bytes));
  await writeSafetensors(staged.path, tensors, { maxShardSize: bytes.length });
  await writeFileAtomic(join(staged.path, "config.json"), JSON.stringify({ version }));
  await staged.commit();
}

function writeFile(version) {
  return writeFileAtomic(target, new Uint8Array(3_000_000).fill(version));
}

/** One run at most when it is to die at a chosen call; for ever when it is killed from outside. */
const runs = killAt === "0" && mode.endsWith("-loop") ? 1e9 : 1;
for (let run = 0, version = firstVersion(); run < runs; run++, version = (version % 200) + 1) {
  if (mode.startsWith("folder")) await writeFolder(version);
  else await writeFile(version);
}
process.stdout.write(`${calls}\n`);

function firstVersion() {
  try {
    const path = mode.startsWith("folder") ? join(target, "config.json") : target;
    const content = readFileSync(path);
    return mode.startsWith("folder") ? JSON.parse(content.toString()).version + 1 : content[0] + 1;
  } catch {
    return 1;
  }
}
