// The head's losses with their gradient in closed form: NLL and KL to a teacher, the vocabulary in chunks.
import type { Dim } from "../../graph/dims.ts";
import type { Graph, Value } from "../../graph/ir.ts";
import { add, equal, gemm, markExact, mul, reduceSum, scale, sub, where } from "../../graph/ops.ts";
import { concat, cutEvenly, gather, padAxis, reshape, slice, transpose, unsqueeze } from "../../graph/shape-ops.ts";
import { type ChunkDistribution, chunkedSoftmax, type Distribution } from "./distribution.ts";
import { buildDenseTeacher, buildSampledTeacher, buildSparseTeacher, type TeacherPart } from "./teacher-losses.ts";

/** The teacher's outputs, from which the student learns besides the labels. */
export type TeacherSignal =
  /** The teacher's logits for some rows (of the N) and one chunk of the vocabulary, [n, v]. */
  | { kind: "logits"; logits(rows: { start: number; end: number }, chunk: number): Value }
  /** Its k most likely tokens: ids int64 [N, k], log-probabilities [N, k]. The rest of the vocabulary is one outcome. */
  | { kind: "top-k"; ids: Value; logProbabilities: Value }
  /** Tokens drawn from it, the same, and what each counts [N, k]. */
  | { kind: "sampled"; ids: Value; logProbabilities: Value; weights: Value };

export interface HeadLossInputs {
  hidden: Value; // after ln_f: [N, C]
  /** The head's matrix whole, [V, C], and the same in chunks of rows. */
  matrix: Value;
  chunks: readonly Value[]; // [v, C] each
  /** Rows at the end of each chunk that belong to no token: their probability is 0. */
  beyond?: number | undefined;
  labels: Value; // int64 or int32 [N], 0 or more
  /** Weight of each row's NLL in the loss, [N, 1]; 0 where a row has no label. */
  nllWeight: Value;
  /** Weight of each row's KL in the loss, temperature² included, [N, 1]; null without a teacher. */
  klWeight: Value | null;
  teacher: TeacherSignal | null;
  temperature: number;
  /** Rows that go through the head at once: [rows, V] is the largest temporary. */
  rowsAtOnce: number;
  /** Whether dMatrix is wanted. */
  matrixTrained: boolean;
  /**
   * Whether the graph is for a device: the labels' part of dL/dz is then within the products, at the price of a tensor [n, v]
   * more, and not left to the caller as rows, which no op adds up as fast on a CPU; and nothing is transposed for a product.
   */
  onDevice?: boolean | undefined;
}

export interface HeadLoss {
  nll: Value; // of each row: [N]
  kl: Value | null; // KL(teacher ‖ student) at the temperature, of each row: [N]
  dHidden: Value; // [N, C]
  /** dL/d(chunk) [v, C], without the labels' rows where those are apart; empty when it is not wanted. */
  dChunks: Value[];
  /** The labels' part of dL/d(matrix), where it is apart: its row labels[i] gets labelRows[i]. [N, C] */
  labelRows: Value | null;
}

/**
 * L = Σ_i a_i·NLL_i + b_i·KL_i, with logits z = h·Wᵀ, p = softmax(z), q = softmax(z/T), t the teacher's at T:
 * dL/dz = a·(p − [label]) + (b/T)·(q − t). The one-hot part is kept apart as rows, so that no [N, V] tensor is built
 * for it, unless the graph is for a device.
 */
export function buildHeadLoss(inputs: HeadLossInputs): HeadLoss {
  const { hidden, matrix, labels, nllWeight, matrixTrained, onDevice = false } = inputs;
  const total = hidden.shape[0] as number;
  const labelWeights = gather(matrix, labels); // [N, C]
  const labelsOfBlocks = onDevice ? cutEvenly(labels, inputs.rowsAtOnce) : [];
  const blocks: RowBlock[] = [];
  let dChunks: Value[] = [];
  for (let start = 0; start < total; start += inputs.rowsAtOnce) {
    const rows = { start, end: Math.min(total, start + inputs.rowsAtOnce) };
    const within = labelsOfBlocks[start / inputs.rowsAtOnce] ?? null;
    const block = buildRowBlock(inputs, rows, { labelWeights, within });
    blocks.push(block);
    if (matrixTrained)
      dChunks = block.dLogits.map((d, c) => {
        const sum = dChunks[c] ?? null;
        // A transpose of its own is faster on a CPU, and slower on WebGPU.
        if (onDevice) return gemm(d, block.hidden, { transA: true, c: sum }); // [v, C]
        return gemm(transpose(d, [1, 0]), block.hidden, { c: sum }); // [v, C]
      });
  }
  const rows = (pick: (block: RowBlock) => Value) =>
    blocks.length === 1 ? pick(blocks[0] as RowBlock) : concat(blocks.map(pick), 0);
  const kl = blocks.every((block) => block.kl) ? rows((block) => block.kl as Value) : null;
  const fromLogits = rows((block) => block.dHidden); // [N, C]
  const dHidden = onDevice ? fromLogits : sub(fromLogits, mul(labelWeights, nllWeight)); // [N, C]
  const labelRows = matrixTrained && !onDevice ? scale(mul(hidden, nllWeight), -1) : null;
  return { nll: rows((block) => block.nll), kl, dHidden, dChunks, labelRows };
}

/** A logit whose e^z is 0 beside any other, and that stays finite when it is divided by a temperature. */
const NO_TOKEN = -1e30;

/** The logits of a chunk of the head's matrix, of which `beyond` rows at the end belong to no token: [n, C] → [n, v] */
export function buildLogits(hidden: Value, chunk: Value, beyond = 0): Value {
  const bias = maskBeyond(chunk.graph, chunk.shape[0] as number, beyond);
  return markExact(gemm(hidden, chunk, { transB: true, c: bias }));
}

/** What [n, v] logits get so that the last ones have no probability, [v]; null where all belong to tokens. */
export function maskBeyond(graph: Graph, count: number, beyond: number): Value | null {
  if (beyond === 0) return null;
  return graph.constant(new Float32Array(count).fill(NO_TOKEN, count - beyond), [count], "float32");
}

/** The head's matrix with rows of zeros at its end: [V, C] → [V + beyond, C] */
export function padHead(matrix: Value, beyond: number): Value {
  return beyond === 0 ? matrix : padAxis(matrix, 0, 0, beyond);
}

interface RowBlock {
  hidden: Value; // [n, C]
  nll: Value; // [n]
  kl: Value | null; // [n]
  dLogits: Value[]; // one a chunk: [n, v]
  dHidden: Value; // without the labels' part, where that is apart: [n, C]
}

interface RowLabels {
  /** The rows of the head's matrix that belong to all labels: [N, C] */
  labelWeights: Value;
  /** The block's labels [n], where their part is within the products. */
  within: Value | null;
}

function buildRowBlock(
  inputs: HeadLossInputs,
  rows: { start: number; end: number },
  { labelWeights, within }: RowLabels,
): RowBlock {
  const { chunks, temperature, teacher, klWeight } = inputs;
  const cut = (x: Value) => sliceRows(x, rows);
  const hidden = cut(inputs.hidden);
  const count = rows.end - rows.start;
  const logits = chunks.map((chunk) => buildLogits(hidden, chunk, inputs.beyond)); // [n, v]
  const student = chunkedSoftmax(logits);
  const labelLogits = reduceSum(mul(hidden, cut(labelWeights)), [1], true); // [n, 1]
  const nll = reshape(sub(student.logNormalizer, labelLogits), [count]);
  const a = cut(inputs.nllWeight);
  let kl: Value | null = null;
  let dLogits: Value[];
  if (teacher && klWeight) {
    const b = scale(cut(klWeight), 1 / temperature);
    const warm = temperature === 1 ? student : chunkedSoftmax(logits.map((z) => scale(z, 1 / temperature)));
    const cooled = buildTeacher(teacher, warm, { rows, cut, chunks: chunks.length, temperature, b });
    kl = reshape(cooled.kl, [count]);
    dLogits = student.parts.map((p, c) =>
      combineGradients(p, warm === student ? null : (warm.parts[c] as ChunkDistribution), cooled, c, a),
    );
  } else dLogits = student.parts.map(({ softmax: p, share }) => mul(p, mul(share, a)));
  if (within) dLogits = subtractLabels(dLogits, within, a);
  const dHidden = dLogits.reduce<Value | null>((sum, d, c) => gemm(d, chunks[c] as Value, { c: sum }), null);
  return { hidden, nll, kl, dLogits, dHidden: dHidden as Value };
}

/** dL/dz − a·[label]: chunk by chunk [n, v], for labels [n] and a [n, 1] */
function subtractLabels(dLogits: readonly Value[], labels: Value, a: Value): Value[] {
  const column = unsqueeze(labels, [1]); // [n, 1]
  let first = 0;
  return dLogits.map((d) => {
    const count = d.shape[1] as number;
    const ids = d.graph.intsLike(
      labels,
      Array.from({ length: count }, (_, v) => first + v),
    ); // [v]
    first += count;
    return where(equal(column, ids), sub(d, a), d); // [n, v]
  });
}

interface TeacherRows {
  rows: { start: number; end: number };
  cut: (x: Value) => Value;
  /** Chunks of the vocabulary. */
  chunks: number;
  temperature: number;
  b: Value;
}

function buildTeacher(
  teacher: TeacherSignal,
  warm: Distribution,
  { rows, cut, chunks, temperature, b }: TeacherRows,
): TeacherPart {
  if (teacher.kind === "logits") {
    const logits = Array.from({ length: chunks }, (_, c) => scale(teacher.logits(rows, c), 1 / temperature));
    return buildDenseTeacher(warm, logits, b);
  }
  const [ids, logProbabilities] = [cut(teacher.ids), cut(teacher.logProbabilities)];
  if (teacher.kind === "top-k") return buildSparseTeacher(warm, ids, logProbabilities, b);
  return buildSampledTeacher(warm, { ids, logProbabilities, weights: cut(teacher.weights) }, b);
}

/** a·p + (b/T)·q − subtract; where T = 1 (`warm` null), p = q and one product does for both. */
function combineGradients(
  part: ChunkDistribution,
  warm: ChunkDistribution | null,
  teacher: TeacherPart,
  c: number,
  a: Value,
): Value {
  const weighted = warm
    ? add(mul(part.softmax, mul(part.share, a)), mul(warm.softmax, mul(warm.share, teacher.studentWeight)))
    : mul(part.softmax, mul(part.share, add(a, teacher.studentWeight)));
  return sub(weighted, teacher.subtract[c] as Value);
}

function sliceRows(x: Value, { start, end }: { start: number; end: number }): Value {
  return start === 0 && end === (x.shape[0] as Dim) ? x : slice(x, 0, start, end);
}
