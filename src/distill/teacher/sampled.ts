// Tokens drawn from the teacher's distribution at each position of a window, with their log-probabilities.
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { Graph } from "../../graph/ir.ts";
import { softmax } from "../../graph/ops.ts";
import { makeFloat32Tensor, type Session } from "../../graph/session.ts";
import { openAll } from "../../io/open-all.ts";
import { declareTextInputs, gpt2, lmHead, makeTextFeeds } from "../../model/gpt2.ts";
import { makeParameterLookup } from "../../model/layers.ts";
import { makeRandom } from "../../numeric/random.ts";
import { drawTokens } from "./draw-tokens.ts";
import { openTeacherSession } from "./teacher.ts";
import { countHeadRows, type TopK, type TopKOptions, type TopKTeacher } from "./top-k.ts";

/** The least log-probability that is stored: float16 has it, and its exponential. */
const LEAST_LOG = -60;

/** Opens a teacher whose draws in a window depend on the window's index alone. */
export async function openSampledTeacher(checkpoint: Checkpoint, options: TopKOptions): Promise<TopKTeacher> {
  const { length, k, precision } = options;
  const { vocab_size: V, n_embd: C } = checkpoint.config;
  const rowsAtOnce = countHeadRows(checkpoint.config, options);
  const open = (graph: Graph) => openTeacherSession(graph, checkpoint, precision, options);
  const { body, head } = await openAll(async (keep) => ({
    body: keep(await open(buildBodyGraph(checkpoint, length))),
    head: keep(await open(buildHeadGraph(checkpoint))),
  }));
  return {
    async run(inputs, window) {
      const random = makeRandom(window);
      const output = makeTopK(length * k);
      const hidden = (await body.run(makeTextFeeds(inputs, [1, length]))).hidden?.data as Float32Array; // [T, C]
      for (let start = 0; start < length; start += rowsAtOnce) {
        const count = Math.min(rowsAtOnce, length - start);
        const rows = makeFloat32Tensor(hidden.subarray(start * C, (start + count) * C), [count, C]);
        const probabilities = await readProbabilities(head, rows); // [n, V]
        for (let row = 0; row < count; row++)
          store(probabilities.subarray(row * V, (row + 1) * V), { k, u: random(), at: (start + row) * k }, output);
      }
      return output;
    },
    async close() {
      await body.close();
      await head.close();
    },
  };
}

async function readProbabilities(head: Session, rows: ReturnType<typeof makeFloat32Tensor>): Promise<Float32Array> {
  return (await head.run({ rows })).probabilities?.data as Float32Array;
}

function makeTopK(values: number): TopK {
  return { ids: new BigInt64Array(values), logProbabilities: new Float32Array(values) };
}

/** Draws k tokens at one position, and stores them from `at` on. */
function store(t: Float32Array, { k, u, at }: { k: number; u: number; at: number }, into: TopK): void {
  for (const [i, token] of drawTokens(t, k, u).entries()) {
    into.ids[at + i] = BigInt(token);
    into.logProbabilities[at + i] = Math.max(LEAST_LOG, Math.log(t[token] as number));
  }
}

/** Hidden states after ln_f: [T, C] */
function buildBodyGraph({ config }: Checkpoint, length: number): Graph {
  const graph = new Graph();
  const inputs = declareTextInputs(graph, 1, length);
  graph.output(gpt2(config, makeParameterLookup(graph, config), inputs, { kind: "mean" }).hidden, "hidden");
  return graph;
}

/** rows [n, C] → probabilities [n, V] */
function buildHeadGraph({ config }: Checkpoint): Graph {
  const graph = new Graph();
  const rows = graph.input("rows", "float32", ["rows", config.n_embd]);
  graph.output(softmax(lmHead(rows, config, makeParameterLookup(graph, config))), "probabilities");
  return graph;
}
