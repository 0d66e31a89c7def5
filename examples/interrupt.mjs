// Interrupts a conversion once its first layer is tied: the call throws, and leaves no output.
import { existsSync } from "node:fs";
import { convert, openCheckpoint } from "noiseformer-compiler";

const base = await openCheckpoint("fixtures/tiny-gpt2");
const stop = new AbortController();
try {
  await convert(base, {
    output: "out/interrupted",
    variant: "symmetric",
    strategy: "spectral",
    onProgress: ({ done, unit }) => {
      if (unit === "layers" && done === 1) stop.abort();
    },
    signal: stop.signal,
  });
} catch (error) {
  console.log(error.code, existsSync("out/interrupted"));
}
await base.close();
