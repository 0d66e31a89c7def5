// Prints the parameters of the published sizes of GPT-2: dense, symmetric, noise-distance, and what symmetric saves.
import { countParameters } from "noiseformer-compiler";

for (const [name, n_layer, n_head, n_embd] of [
  ["small", 12, 12, 768],
  ["medium", 24, 16, 1024],
  ["large", 36, 20, 1280],
  ["xl", 48, 25, 1600],
]) {
  const sizes = { n_layer, n_head, n_embd, n_inner: 4 * n_embd, n_positions: 1024, vocab_size: 50257 };
  const count = (variant) => countParameters({ ...sizes, bias: true, tied_head: true, variant });
  const [dense, symmetric, distance] = ["dense", "symmetric", "noise-distance"].map(count);
  const columns = [dense, symmetric, distance].map((parameters) => parameters.toLocaleString("en-US").padStart(14));
  console.log(name.padEnd(6), ...columns, `${((100 * (symmetric - dense)) / dense).toFixed(2)} %`);
}
