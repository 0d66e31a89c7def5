// Teachers: hidden states and head in float32 and int8, what the student's step makes of them, the k most likely tokens.
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { type Checkpoint, openCheckpoint } from "../../../src/checkpoint/checkpoint.ts";
import { ParameterStore } from "../../../src/distill/step/parameter-store.ts";
import {
  nameTeacherChunk,
  nameTeacherScales,
  planHeadChunks,
  STEP,
  type TeacherInput,
} from "../../../src/distill/step/step-graph.ts";
import { openTrainingStep } from "../../../src/distill/step/training-step.ts";
import { openTeacher } from "../../../src/distill/teacher/teacher.ts";
import { openTopKTeacher } from "../../../src/distill/teacher/top-k.ts";
import { Graph, pruneGraph, type Value } from "../../../src/graph/ir.ts";
import { Session, type Tensor } from "../../../src/graph/session.ts";
import { declareTextInputs, gpt2, lmHead, makeTextFeeds } from "../../../src/model/gpt2.ts";
import { makeParameterLookup } from "../../../src/model/layers.ts";
import { writeCheckpoint } from "../../support/make-checkpoint.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const at = temporaryFolder("teacher");
const [BATCH, LENGTH, VOCAB] = [2, 12, 61];
const WINDOWS = Int32Array.of(0, 1);
const inputs = Int32Array.from({ length: BATCH * LENGTH }, (_, i) => (7 * i * i + 3) % VOCAB);
const chunks = planHeadChunks(VOCAB, 40); // 40 and 21 rows
const shape = { batch: BATCH, length: LENGTH, chunks, threads: 1 };

/** Values as wide as a trained model's: the checkpoint maker draws from [−1, 1). */
async function tiny(name: string, options: { head?: "own"; bias?: boolean } = {}): Promise<Checkpoint> {
  const folder = await writeCheckpoint(at(name), {
    layers: 2,
    heads: 2,
    width: 16,
    positions: LENGTH,
    vocab: VOCAB,
    ...options,
  });
  const checkpoint = await openCheckpoint(folder);
  return {
    ...checkpoint,
    tensors: checkpoint.tensors,
    readF32: async (tensor) => softened(tensor, await checkpoint.readF32(tensor)),
    close: () => checkpoint.close(),
  };
}

function softened(name: string, values: Float32Array): Float32Array {
  return name.includes("ln_")
    ? values.map((x) => (name.endsWith("weight") ? 1 + 0.1 * x : 0.1 * x))
    : values.map((x) => 0.4 * x);
}

/** Logits of the forward pass in one graph, float32: [N, V] */
async function logitsOf(checkpoint: Checkpoint): Promise<Float32Array> {
  const { config } = checkpoint;
  const graph = new Graph();
  const parameters = makeParameterLookup(graph, config);
  const { hidden } = gpt2(config, parameters, declareTextInputs(graph, BATCH, LENGTH), { kind: "mean" });
  graph.output(lmHead(hidden, config, parameters), "logits");
  const weights = new Map<string, Float32Array>();
  for (const name of checkpoint.tensors.keys()) weights.set(name, await checkpoint.readF32(name));
  const session = await Session.withWeights(graph, ({ name }: Value) => weights.get(name) as Float32Array, {
    threads: 1,
  });
  const { logits } = await session.run(makeTextFeeds(inputs, [BATCH, LENGTH]));
  await session.close();
  return (logits as Tensor).data as Float32Array;
}

function logSoftmax(z: Float32Array): number[] {
  const top = Math.max(...z);
  const normalizer = top + Math.log(z.reduce((sum, x) => sum + Math.exp(x - top), 0));
  return Array.from(z, (x) => x - normalizer);
}

const models: Record<string, Checkpoint> = {};
beforeAll(async () => {
  models["a tied head"] = await tiny("tied");
  models["a head of its own, no biases"] = await tiny("own", { head: "own", bias: false });
});
afterAll(async () => {
  for (const model of Object.values(models)) await model.close();
});
const model = (name: string) => models[name] as Checkpoint;

/** KL of each row, and the gradients, of a student that is the teacher with its matrices doubled. */
async function step(checkpoint: Checkpoint, input: TeacherInput, feeds: Record<string, Tensor>) {
  const { config } = checkpoint;
  const store = new ParameterStore(
    [...checkpoint.tensors.values()].map(({ name, shape }) => ({ name, shape, trained: true })),
  );
  for (const name of store.names) store.value(name).set((await checkpoint.readF32(name)).map((x) => 1.5 * x));
  const options = {
    config,
    batch: BATCH,
    length: LENGTH,
    trained: new Set(store.trained),
    noise: "mean",
    teacher: input,
    vocabularyChunk: 40,
    rowsAtOnce: 10,
  } as const;
  const training = await openTrainingStep(options, store, { threads: 1 });
  const rows = BATCH * LENGTH;
  const losses = await training.run({ inputs, labels: inputs }, { nll: 0, kl: 1 / rows }, feeds);
  await training.close();
  return { kl: losses.kl / rows, gradient: (name: string) => store.slot(name).gradient };
}

/** ‖a − b‖ / ‖b‖ */
function distance(a: Float32Array, b: Float32Array): number {
  const norm = (x: Float32Array) => Math.sqrt(x.reduce((sum, value) => sum + value * value, 0));
  return norm(a.map((x, i) => x - (b[i] as number))) / norm(b);
}

for (const name of ["a tied head", "a head of its own, no biases"])
  describe(`a teacher with ${name}`, () => {
    it("a teacher feeds hidden states and head chunks that make its logits", async () => {
      const teacher = await openTeacher(model(name), shape);
      const feeds = await teacher.feeds(inputs);
      const expected = await logitsOf(model(name));
      const hidden = feeds[STEP.teacherHidden]?.data as Float32Array;
      for (const [c, { first, count }] of chunks.entries()) {
        const chunk = feeds[nameTeacherChunk(c)] as Tensor;
        expect(chunk.shape).toEqual([count, 16]);
        for (const row of [0, 11, 23])
          for (let j = 0; j < count; j++) {
            let sum = 0;
            for (let k = 0; k < 16; k++)
              sum += (hidden[row * 16 + k] as number) * ((chunk.data as Float32Array)[j * 16 + k] as number);
            expect(sum).toBeCloseTo(expected[row * VOCAB + first + j] as number, 4);
          }
      }
      await teacher.close();
    });

    it("a matrix that is embedding and head is held once: the session is fed it", async () => {
      const open = vi.spyOn(Session, "withWeights");
      const teacher = await openTeacher(model(name), shape);
      const graph = open.mock.calls[0]?.[0] as Graph;
      const names = (values: readonly Value[]) => values.map((value) => value.name);
      const [owned, fed] = [names(pruneGraph(graph).parameters), names(graph.inputs)];
      expect({ owned: owned.includes("wte.weight"), fed: fed.includes("fed/wte.weight") }).toEqual(
        name === "a tied head" ? { owned: false, fed: true } : { owned: true, fed: false },
      );
      await teacher.close();
      open.mockRestore();
    });

    it("a teacher in int8 is near the float32 teacher, and its head is int8", async () => {
      const [full, cheap] = [
        await openTeacher(model(name), shape),
        await openTeacher(model(name), { ...shape, precision: "int8" }),
      ];
      const [a, b] = [await full.feeds(inputs), await cheap.feeds(inputs)];
      expect(b[nameTeacherChunk(1)]).toMatchObject({ dtype: "int8", shape: [16, 21] });
      expect(b[nameTeacherScales(1)]).toMatchObject({ dtype: "float32", shape: [21] });
      const error = distance(b[STEP.teacherHidden]?.data as Float32Array, a[STEP.teacherHidden]?.data as Float32Array);
      expect(error).toBeLessThan(0.03);
      expect(error).toBeGreaterThan(1e-4); // not the same arithmetic
      const [exact, near] = [await step(model(name), full.input, a), await step(model(name), cheap.input, b)];
      expect(exact.kl).toBeGreaterThan(0.01);
      expect(Math.abs(near.kl / exact.kl - 1)).toBeLessThan(0.05);
      for (const parameter of ["wte.weight", "h.0.mlp.c_fc.weight", "h.1.attn.c_attn.weight"]) {
        const difference = distance(near.gradient(parameter), exact.gradient(parameter));
        expect(difference, parameter).toBeLessThan(0.15);
        expect(difference, parameter).toBeGreaterThan(0);
      }
      await full.close();
      await cheap.close();
    });

    for (const rowsAtOnce of [100, 5]) // one block, and blocks of 5, 5 and 2
      it(`a top-k teacher gives the k most likely tokens of the whole vocabulary, ${rowsAtOnce} rows at once`, async () => {
        const k = 7;
        const teacher = await openTopKTeacher(model(name), {
          length: LENGTH,
          k,
          precision: "fp32",
          rowsAtOnce,
          threads: 1,
        });
        const logits = await logitsOf(model(name));
        for (const window of WINDOWS) {
          const { ids, logProbabilities } = await teacher.run(
            inputs.subarray(window * LENGTH, (window + 1) * LENGTH),
            window,
          );
          expect(ids.length).toBe(LENGTH * k);
          for (let t = 0; t < LENGTH; t++) {
            const row = window * LENGTH + t;
            const all = logSoftmax(logits.subarray(row * VOCAB, (row + 1) * VOCAB));
            const best = all
              .map((_, j) => j)
              .sort((i, j) => (all[j] as number) - (all[i] as number))
              .slice(0, k);
            expect(Array.from(ids.subarray(t * k, (t + 1) * k), Number)).toEqual(best);
            for (const [j, id] of best.entries()) expect(logProbabilities[t * k + j]).toBeCloseTo(all[id] as number, 4);
          }
        }
        await teacher.close();
      });

    it("a top-k teacher in int8 finds nearly the same tokens", async () => {
      const options = { length: LENGTH, k: 7, threads: 1 };
      const [full, cheap] = [
        await openTopKTeacher(model(name), { ...options, precision: "fp32" }),
        await openTopKTeacher(model(name), { ...options, precision: "int8" }),
      ];
      const [a, b] = [await full.run(inputs.subarray(0, LENGTH), 0), await cheap.run(inputs.subarray(0, LENGTH), 0)];
      expect(distance(b.logProbabilities, a.logProbabilities)).toBeLessThan(0.03);
      expect([...b.logProbabilities]).not.toEqual([...a.logProbabilities]);
      await full.close();
      await cheap.close();
    });

    it("a top-k teacher with all tokens teaches the step what its hidden states do", async () => {
      const [full, known] = [
        await openTeacher(model(name), shape),
        await openTopKTeacher(model(name), { length: LENGTH, k: VOCAB, precision: "fp32", threads: 1 }),
      ];
      const parts = [await known.run(inputs.subarray(0, LENGTH), 0), await known.run(inputs.subarray(LENGTH), 1)];
      const feeds: Record<string, Tensor> = {
        [STEP.teacherIds]: {
          dtype: "int64",
          data: BigInt64Array.from(parts.flatMap(({ ids }) => [...ids])),
          shape: [BATCH * LENGTH, VOCAB],
        },
        [STEP.teacherLogProbabilities]: {
          dtype: "float32",
          data: Float32Array.from(parts.flatMap(({ logProbabilities }) => [...logProbabilities])),
          shape: [BATCH * LENGTH, VOCAB],
        },
      };
      const exact = await step(model(name), full.input, await full.feeds(inputs));
      const found = await step(model(name), { kind: "top-k", k: VOCAB }, feeds);
      expect(found.kl).toBeCloseTo(exact.kl, 5);
      for (const parameter of model(name).tensors.keys())
        if (!parameter.endsWith("c_attn.bias"))
          // the bias of K has no gradient but rounding noise
          expect(distance(found.gradient(parameter), exact.gradient(parameter)), parameter).toBeLessThan(1e-3);
      await full.close();
      await known.close();
    });
  });
