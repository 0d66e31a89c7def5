// Trains a symmetric model from random weights, and prints its progress.
import { pretrain } from "noiseformer-compiler";

const result = await pretrain({
  config: "fixtures/tiny-gpt2/config.json",
  variant: "symmetric",
  output: "out/scratch",
  data: ["fixtures/train.txt"],
  settings: { steps: 100, lr: 3e-3 },
  onProgress: ({ phase, done, total }) => {
    if (phase === "pretraining" && done % 50 === 0) console.log(phase, done, total);
  },
});
console.log(result.best);
