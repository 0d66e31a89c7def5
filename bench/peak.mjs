// Preloaded into a benchmarked command: writes its peak memory to the file named by NFC_BENCH_PEAK when it ends.
import { writeFileSync } from "node:fs";

const file = process.env.NFC_BENCH_PEAK;
// Worker threads run this too; only the main thread's exit is the process's.
process.on("exit", () => {
  if (file) writeFileSync(file, String(process.resourceUsage().maxRSS));
});
