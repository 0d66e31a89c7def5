// Converts a model, distills it, measures what was lost, exports it, and counts what was saved.
import {
  canTransfer,
  convert,
  createReport,
  evaluate,
  exportModel,
  inspect,
  loadTokenizer,
  openCheckpoint,
  resolveTrainSettings,
  streamTokens,
  train,
} from "noiseformer-compiler";

const base = await openCheckpoint("fixtures/tiny-gpt2");
console.log(inspect(base).parameters);
await convert(base, {
  output: "out/nf",
  variant: "noise-distance",
  strategy: "calibrated",
  calibration: ["fixtures/train.txt"],
});

const tied = await openCheckpoint("out/nf");
const transferable = canTransfer(tied.config, base.config);
const { perplexity } = await train(tied, {
  output: "out/nf-distilled",
  teacher: base,
  data: ["fixtures/train.txt"],
  settings: resolveTrainSettings("distill", tied.config, { transferable, steps: 200, batchSize: 16, lr: 1e-3 }),
});
console.log(perplexity); // on the last 2 % of train.txt

const distilled = await openCheckpoint("out/nf-distilled");
const tokens = streamTokens(["fixtures/text.txt"], await loadTokenizer(distilled.folder, distilled.config));
const score = await evaluate(distilled, { tokens, against: base });
console.log(score.perplexity.toFixed(3), score.against.perplexity.toFixed(3));

await exportModel(distilled, { output: "out/nf-onnx", onnx: { weights: "inline", noise: { kind: "mean" } } });
console.log(createReport(base, distilled).total.parameters);
await Promise.all([base.close(), tied.close(), distilled.close()]);
