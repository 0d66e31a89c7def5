// Exports a model in 4 bits and continues a prompt with the file.
import { exportModel, generate, openCheckpoint, openExportedModel } from "noiseformer-compiler";

const checkpoint = await openCheckpoint("fixtures/tiny-gpt2");
const onnx = { precisions: ["q4"], weights: "inline", noise: { kind: "mean" } };
await exportModel(checkpoint, { output: "out/tiny-onnx", onnx });
await checkpoint.close();

const model = await openExportedModel("out/tiny-onnx");
const prompts = ["Anna keeps her old lantern in the tower. Boris keeps his"];
for await (const { text } of generate(model, { prompts, maxNewTokens: 30 })) process.stdout.write(text);
process.stdout.write("\n");
