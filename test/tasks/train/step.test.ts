// A classifier's logits, losses and gradients against PyTorch: transformers' GPT2ForSequenceClassification in float64.
import { describe, expect, it } from "vitest";
import { ParameterStore } from "../../../src/distill/step/parameter-store.ts";
import { makeStore } from "../../../src/distill/trained-model.ts";
import { Classifier } from "../../../src/tasks/classify.ts";
import { batchExamples } from "../../../src/tasks/examples.ts";
import { ClassifierStep } from "../../../src/tasks/train/step.ts";
import { opened } from "../../support/fixture.ts";
import { writeCheckpoint } from "../../support/make-checkpoint.ts";
import { temporaryFolder } from "../../support/temp-folder.ts";

const path = temporaryFolder("classifier");
const TEXTS = [
  [3, 7, 1, 22, 5],
  [9, 2],
  [4, 4, 17, 11, 0, 6, 13, 8],
];

const write = (labels: number, variant?: "noise-distance") =>
  writeCheckpoint(path(`${labels} ${variant}`), {
    ...{ labels, base: "transformer.", vocab: 23, positions: variant ? 20 : 12 },
    ...(variant && { variant }),
  });

async function oneStep(
  folder: string,
  labels: readonly number[],
  options: { kd?: number; temperature?: number; teacher?: Float32Array; rows?: number } = {},
) {
  const { kd = 0, temperature = 1, teacher = null, rows = 3 } = options;
  return opened(folder, async (checkpoint) => {
    const { config } = checkpoint;
    const examples = TEXTS.map((ids, i) => ({ ids, label: labels[i] as number }));
    const store = await makeStore(checkpoint, () => true, { session: {} });
    if (!(store instanceof ParameterStore)) throw new Error("the CPU trains in the host's memory");
    const settings = { config, batchSize: rows, noise: "mean", seed: 0, kd, temperature, noiseKl: 0 } as const;
    const step = new ClassifierStep({ ...settings, session: { threads: 1 } }, store);
    const [batch] = batchExamples(examples, { batchSize: rows, length: 12 });
    if (!batch) throw new Error("no batch");
    // The batch is sorted by length; the teacher's rows follow it.
    const rowsOf = (logits: Float32Array) =>
      Float32Array.from([...batch.indices].flatMap((index) => [...logits.subarray(index * 3, index * 3 + 3)]));
    const losses = await step.run(0, batch, teacher && rowsOf(teacher));
    await step.close();
    const gradient = (name: string) => {
      const { gradient: values } = store.slot(name);
      return {
        norm: Math.sqrt(values.reduce((sum, value) => sum + value * value, 0)),
        first: [...values.subarray(0, 3)],
      };
    };
    return { losses, gradient, count: batch.count };
  });
}

describe("a classifier's logits", () => {
  it("the logits are those of the last token, whatever the padding", async () => {
    const folder = await write(3);
    await opened(folder, async (checkpoint) => {
      const classifier = await Classifier.ofCheckpoint(checkpoint, { threads: 1 });
      const logits = await classifier.logits(
        TEXTS.map((ids) => ({ ids, label: 0 })),
        { length: 12 },
      );
      const expected = [
        3.112782022, 2.259173468, -2.065522725, 2.336796748, 1.79476574, -1.241944114, 3.085016265, 3.053801572,
        -2.159542847,
      ];
      for (const [i, value] of expected.entries()) expect(logits[i]).toBeCloseTo(value, 4);
      await classifier.close();
    });
  });
});

describe("one training step on a task", () => {
  const CLASSES = {
    "wte.weight": [0.8784128311100734, 0.015021189696991868],
    "wpe.weight": [0.8628636143483398, -0.40489694751596167],
    "h.0.attn.c_attn.weight": [1.4038349900300546, 0.06475879618811199],
    "h.1.mlp.c_proj.bias": [0.08725301379188109, -0.004522525778340116],
    "ln_f.weight": [0.9757267408344837, 0.060549984521051294],
    "score.weight": [1.4791807831761494, 0.07757600419087902],
  } as const;
  const NUMBER = {
    "wte.weight": [2.881082960842299, -0.023462900498824366],
    "wpe.weight": [3.033551910304681, -0.9116274214754525],
    "h.0.attn.c_attn.weight": [4.65233977329792, 0.10401905428985937],
    "h.1.mlp.c_proj.bias": [1.1338926870854098, 0.1318482168495786],
    "ln_f.weight": [8.291432674048577, 0.37078336707519327],
    "score.weight": [15.840219780342714, 0.7563203341547537],
  } as const;

  it.each([
    ["of classes", 3, [2, 0, 1], 2.2414992308433743, CLASSES],
    ["of a regression", 1, [0.5, -1.25, 2], 6.956333699685991, NUMBER],
  ] as const)(
    "a step %s has PyTorch's loss and gradients, in a full batch and beside padding rows",
    async (_, labels, truth, loss, expected) => {
      const folder = await write(labels);
      for (const rows of [3, 5]) {
        const { losses, gradient, count } = await oneStep(folder, truth, { rows });
        expect(losses.loss / count).toBeCloseTo(loss, 4);
        for (const [name, [norm, first]] of Object.entries(expected)) {
          expect(gradient(name).norm / norm, name).toBeCloseTo(1, 4);
          expect(gradient(name).first[0], name).toBeCloseTo(first, 4);
        }
      }
    },
  );

  it("a step with a teacher has PyTorch's losses and gradients", async () => {
    const teacher = Float32Array.from([1, 0, -1, 0.5, 0.25, 2, -1, 3, 0]);
    const { losses, gradient } = await oneStep(await write(3), [2, 0, 1], { kd: 0.4, temperature: 2, teacher });
    expect(losses.loss / 3).toBeCloseTo(1.9844687488485802, 4);
    expect(losses.teacher / 3).toBeCloseTo(1.5989230258563891, 4);
    expect(gradient("score.weight").norm).toBeCloseTo(1.7667056953655078, 4);
    expect(gradient("h.0.attn.c_attn.weight").norm).toBeCloseTo(1.0639834503093963, 4);
  });

  it("a step moves the distance means of a tied model", async () => {
    const { gradient } = await oneStep(await write(3, "noise-distance"), [2, 0, 1]);
    expect(gradient("h.1.attn.noise_mean").norm).toBeGreaterThan(1e-6);
  });
});
