// Repairs a smaller model in closed form: each half-block's output weights are refitted to the stream of the source.
import { type Checkpoint, requireTensor } from "../../checkpoint/checkpoint.ts";
import { deriveCheckpoint, makeTensor } from "../../checkpoint/derived.ts";
import { throwIfAborted } from "../../errors.ts";
import { embedWindowsApart, type Hidden } from "../../inference/layerwise.ts";
import { computeStandardError } from "../../numeric/standard-error.ts";
import type { Cut, CutTools } from "../cut.ts";
import { runInPieces } from "../pieces.ts";
import { countTokens } from "../statistics/calibration-text.ts";
import { DivergenceMeter } from "../statistics/divergence.ts";
import { moveStreams } from "../statistics/layer-stream.ts";
import { fitChange } from "./repair-fit.ts";
import { HALVES, type Half, joinWeights, measureHalf, splitWeights } from "./repair-moments.ts";

/** Every fourth window is held out: how far a change is taken, and whether the repair stays, is decided on these. */
const HELD_OUT = 4;
/** Standard errors by which the held-out text must gain: a few windows differ by chance as much as by repair. */
const SURE = 2;

export interface RepairInput {
  source: Checkpoint;
  /** The model that the cuts have left. */
  student: Checkpoint;
  /** The source's layer that each of the student's layers was. */
  kept: readonly number[];
}

/** Windows of text, or streams of them, in two parts. */
interface Parts<T> {
  fit: T[];
  held: T[];
}

/**
 * The student with attn.c_proj and mlp.c_proj refitted, weights and biases, from the first layer to the last: each by
 * ridge regression on what the repaired student itself feeds it, towards the source's stream after that half-block less the
 * student's stream before it. The last target before layers that were cut away is the source's stream after those. The
 * repair stays where it brings the model nearer to the source on text held out by more than chance would, or where `always`
 * says so; with under two windows held out that cannot be told, and only `always` repairs.
 */
export async function repairModel(input: RepairInput, always: boolean, tools: CutTools): Promise<Cut> {
  const { text } = tools;
  if (!text) throw new Error("a repair needs text");
  const { student } = input;
  const windows = splitWindows(text.windows);
  const measurable = windows.held.length >= 2 && (text.windows[0]?.length ?? 0) >= 2;
  if (!measurable && !always) return { model: student, finish: async () => ({}) };
  const { before, after, error } = await new Repair(input, windows, tools).run();
  const better = after + SURE * error < before;
  const applied = always || better;
  const tokens = { tokens: countTokens(windows.fit), heldOut: countTokens(windows.held) };
  const { record } = text;
  return {
    model: applied ? deriveRepaired(student, tools) : student,
    finish: async () => ({
      cuts: [{ axis: "repair", applied, before, after, error, ...tokens, calibration: record }],
    }),
  };
}

/** One window alone serves as both. */
function splitWindows(windows: readonly Int32Array[]): Parts<Int32Array> {
  if (windows.length === 1) return { fit: [...windows], held: [...windows] };
  const isHeld = (w: number) =>
    w % HELD_OUT === HELD_OUT - 1 || (windows.length < HELD_OUT && w === windows.length - 1);
  return { fit: windows.filter((_, w) => !isHeld(w)), held: windows.filter((_, w) => isHeld(w)) };
}

const inScratch = (name: string) => `repaired ${name}`;
const REPAIRED = /^h\.\d+\.(attn|mlp)\.c_proj\./;

function deriveRepaired(student: Checkpoint, { scratch, dtype }: CutTools): Checkpoint {
  return deriveCheckpoint(student, student.config, ({ name }) =>
    REPAIRED.test(name)
      ? makeTensor(dtype ?? requireTensor(student, name).dtype, () => scratch.read(inScratch(name)))
      : name,
  );
}

/** KL(source ‖ student) of the held-out text before and after a repair, and the standard error of the difference. */
interface Gain {
  before: number;
  after: number;
  error: number;
}

/** Means over windows, which are of one length; the error is that of the mean of paired differences. */
function summarize(losses: readonly Pick<Gain, "before" | "after">[]): Gain {
  const n = losses.length;
  const average = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / n;
  const [before, after] = [average(losses.map((loss) => loss.before)), average(losses.map((loss) => loss.after))];
  const pairs = losses.map((loss) => ({ weight: 1, change: loss.after - loss.before }));
  return { before, after, error: computeStandardError(pairs, ({ change }) => change) };
}

/** Streams in the order fit, held. */
type Streams = [Hidden[], Hidden[]];

class Repair {
  private readonly input: RepairInput;
  private readonly windows: Parts<Int32Array>;
  private readonly tools: CutTools;

  constructor(input: RepairInput, windows: Parts<Int32Array>, tools: CutTools) {
    this.input = input;
    this.windows = windows;
    this.tools = tools;
  }

  /** Puts the repaired weights into the scratch file; gives what the held-out text gains. */
  async run(): Promise<Gain> {
    const { source, student, kept } = this.input;
    const { fit, held } = this.windows;
    const { device, threads, signal, onProgress } = this.tools;
    const embedded = await embedWindowsApart(source, [...fit, ...held]);
    const start = (): Streams => [embedded.slice(0, fit.length), embedded.slice(fit.length)];
    let teacher = await this.advance(start(), 0, kept[0] as number);
    let repaired = start();
    let plain = start()[1];
    for (const [layer, from] of kept.entries()) {
      throwIfAborted(signal);
      onProgress?.({ phase: "repairing", done: layer, total: kept.length, unit: "layers", detail: `h.${layer}` });
      const middle = (await moveStreams(source, from, teacher, {
        device,
        threads,
        signal,
        point: "middle",
      })) as Streams;
      teacher = await this.advance(teacher, from, kept[layer + 1] ?? source.config.n_layer);
      repaired = await this.repairLayer(layer, repaired, { attn: middle, mlp: teacher });
      [plain] = (await moveStreams(student, layer, [plain], { device, threads, signal })) as [Hidden[]];
    }
    const meter = await DivergenceMeter.open(source, { device, threads, signal });
    try {
      const losses: Pick<Gain, "before" | "after">[] = [];
      for (const [w, ids] of held.entries()) {
        const pick = (stream: readonly Hidden[]) => [stream[w] as Hidden];
        const [before, after] = await meter.measure([ids], pick(teacher[1]), [pick(plain), pick(repaired[1])]);
        losses.push({ before: before?.kl as number, after: after?.kl as number });
      }
      return summarize(losses);
    } finally {
      await meter.close();
    }
  }

  /** The source's streams before layer `to`, from those before layer `from`. */
  private async advance(streams: Streams, from: number, to: number): Promise<Streams> {
    const { device, threads, signal } = this.tools;
    let after = streams;
    for (let layer = from; layer < to; layer++)
      after = (await moveStreams(this.input.source, layer, after, { device, threads, signal })) as Streams;
    return after;
  }

  /** Refits a layer's two halves; gives the streams after it. */
  private async repairLayer(layer: number, streams: Streams, targets: Record<Half, Streams>): Promise<Streams> {
    const { student } = this.input;
    const { device, threads, signal, scratch } = this.tools;
    const weights = new Map<string, Float32Array>();
    for (const half of HALVES) {
      const run = { checkpoint: student, layer, half, weights, device, threads, signal };
      const fit = await measureHalf(run, streams[0], targets[half][0]);
      const held = await measureHalf(run, streams[1], targets[half][1]);
      const current = await joinWeights(student, layer, half);
      const repaired = await runInPieces(fitChange(current, fit, held), signal);
      for (const [name, values] of splitWeights(student, layer, half, repaired)) {
        weights.set(name, values);
        await scratch.put(inScratch(name), values);
      }
    }
    return (await moveStreams(student, layer, streams, { device, threads, signal, weights })) as Streams;
  }
}
