// The rows of the GLUE table in the paper (arXiv 2601.11619): CoLA's Matthews correlation, accuracies elsewhere.

export const PAPER_ROWS: readonly { model: string; scores: Readonly<Record<string, number>> }[] = [
  {
    model: "NanoGPT_Base",
    scores: { mrpc: 0.7475, cola: 0.15, mnli: 0.5691, qqp: 0.766, rte: 0.6101, qnli: 0.673, sst2: 0.8165 },
  },
  {
    model: "SymAttn",
    scores: { mrpc: 0.6887, cola: 0.22, mnli: 0.5605, qqp: 0.7764, rte: 0.527, qnli: 0.6816, sst2: 0.8704 },
  },
  {
    model: "NoiseFormer_V1",
    scores: { mrpc: 0.7328, cola: 0.09, mnli: 0.5574, qqp: 0.7626, rte: 0.5812, qnli: 0.6688, sst2: 0.8268 },
  },
  {
    model: "NoiseFormer_V2",
    scores: { mrpc: 0.7279, cola: 0.1, mnli: 0.5526, qqp: 0.7683, rte: 0.5667, qnli: 0.6673, sst2: 0.8256 },
  },
];
