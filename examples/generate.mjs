// Exports a model in 4 bits and continues a prompt with the file.
import {
  chooseFile,
  Decoder,
  exportModel,
  generate,
  loadTokenizer,
  openCheckpoint,
  openExportedModel,
  readEndTokens,
} from "noiseformer-compiler";

const checkpoint = await openCheckpoint("fixtures/tiny-gpt2");
const onnx = { precisions: ["q4"], weights: "inline", noise: { kind: "mean" } };
await exportModel(checkpoint, { output: "out/tiny-onnx", onnx });
await checkpoint.close();

const model = await openExportedModel("out/tiny-onnx");
const tokenizer = await loadTokenizer(model.folder, model.config);
const decoder = await Decoder.ofFile(chooseFile(model, "q4"), model.config);
const prompts = [tokenizer.encode("Anna keeps her old lantern in the tower. Boris keeps his")];
const end = await readEndTokens(model);
for await (const { text } of generate(decoder, tokenizer, prompts, { end, maxNewTokens: 30 })) {
  process.stdout.write(text);
}
process.stdout.write("\n");
await decoder.close();
