// Converts a model, distills it, measures what was lost, exports it, and counts what was saved.
import { convert, createReport, evaluate, exportModel, inspect, openCheckpoint, train } from "noiseformer-compiler";

const base = await openCheckpoint("fixtures/tiny-gpt2");
console.log(inspect(base).parameters);
await convert(base, {
  output: "out/nf",
  variant: "noise-distance",
  strategy: "calibrated",
  calibration: ["fixtures/train.txt"],
});

const tied = await openCheckpoint("out/nf");
const { perplexity } = await train(tied, {
  output: "out/nf-distilled",
  teacher: base,
  data: ["fixtures/train.txt"],
  settings: { steps: 200, batchSize: 16, lr: 1e-3 },
});
console.log(perplexity); // on the last 2 % of train.txt

const distilled = await openCheckpoint("out/nf-distilled");
const score = await evaluate(distilled, { text: ["fixtures/text.txt"], against: base });
console.log(score.perplexity.toFixed(3), score.against.perplexity.toFixed(3));

await exportModel(distilled, { output: "out/nf-onnx", onnx: { weights: "inline", noise: { kind: "mean" } } });
console.log(createReport(base, distilled).total.parameters);
await Promise.all([base.close(), tied.close(), distilled.close()]);
