// Trains a symmetric model from random weights, and prints its progress.
import { makeFreshModel, resolveTrainSettings, train } from "noiseformer-compiler";

const model = await makeFreshModel({ config: "fixtures/tiny-gpt2/config.json", variant: "symmetric", seed: 0 });
const result = await train(model, {
  output: "out/scratch",
  data: ["fixtures/train.txt"],
  settings: resolveTrainSettings("pretrain", model.config, { steps: 100, lr: 3e-3 }),
  onProgress: ({ phase, done, total, unit }) => {
    if (unit === "steps" && done % 50 === 0) console.log(phase, done, total);
  },
});
console.log(result.best);
