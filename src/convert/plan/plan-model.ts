// Plans how to make a model smaller: measures each axis alone and together along a path, and keeps what it knows on disk.
import { rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Checkpoint } from "../../checkpoint/checkpoint.ts";
import { describeSource } from "../../checkpoint/provenance.ts";
import { NfcError } from "../../errors.ts";
import type { Device } from "../../graph/session.ts";
import { lockFolder, unlockFolder } from "../../io/folder-lock.ts";
import { withIoErrors } from "../../io/io-error.ts";
import { refuseClassifier } from "../../model/classifier.ts";
import { formatDuration } from "../../report/render/format.ts";
import { TOOL } from "../../version.ts";
import { toCutSettings } from "../convert.ts";
import { AXES, type Axis, describeCuts, toCutOptions } from "./axes.ts";
import { Meter, TENSORS_FILE } from "./measure.ts";
import { type Plan, type PlanMeasurement, refuseOtherTool, resumePlan, writePlan } from "./plan-file.ts";
import { type PlanTextOptions, type PlanTexts, readPlanTexts } from "./plan-text.ts";
import { type Cuts, findPath } from "./search.ts";

/** The share of the parameters at which a path ends: further cuts leave too little of a model that is not trained. */
const DEFAULT_FLOOR = 0.4;

export interface PlanOptions extends PlanTextOptions {
  /** The plan file, written after every measurement. */
  file: string;
  /** Replace the plan of another model or text. */
  force?: boolean | undefined;
  /** The share of the source's parameters at which the path ends. */
  floor?: number | undefined;
  device?: Device | undefined;
  threads?: number | undefined;
  /** Ends the path early, at the first step that it is true of. */
  isEnough?: ((measurement: PlanMeasurement, source: PlanMeasurement) => boolean) | undefined;
  /** @internal */
  axes?: readonly Axis[] | undefined;
}

/**
 * Measurements of the same model and text in an existing file are taken over, so that an interrupted plan goes on.
 * @throws NfcError "unsupported" for a model that is cut already; "exists" for a file about something else; "aborted",
 * with what is kept
 */
export async function planModel(checkpoint: Checkpoint, options: PlanOptions): Promise<Plan> {
  const { file, axes = AXES, floor = DEFAULT_FLOOR, force = false, signal, onProgress } = options;
  refuseUnplannable(checkpoint);
  const source = await describeSource(checkpoint, signal, onProgress);
  const texts = await readPlanTexts(checkpoint, options);
  const { config } = checkpoint;
  const tried = axes.map(({ name, listValues }) => ({ name, values: listValues({ config, ...texts }) }));
  for (const [i, { checkText }] of axes.entries())
    for (const value of tried[i]?.values ?? []) checkText?.(texts.fitted, value);
  const subject = { tool: TOOL, source, ...texts.record, axes: tried.filter(({ values }) => values.length > 0), floor };
  return withWorkFolder(file, async (folder) => {
    const plan = await resumePlan(file, subject, force);
    return new Planner(checkpoint, plan, { ...options, axes, texts, folder }).run();
  });
}

/**
 * Measures models of a plan that are no steps of it; what is found is kept in the plan's file.
 * @param options `texts`: those of the plan (`readTextsAgain`)
 * @param work gets a function that measures one; it throws "aborted"
 */
export function withMeasuring<T>(
  checkpoint: Checkpoint,
  plan: Plan,
  options: PlanOptions & { texts: PlanTexts },
  work: (measure: (cuts: Cuts) => Promise<PlanMeasurement>) => Promise<T>,
): Promise<T> {
  return withWorkFolder(options.file, (folder) => {
    const planner = new Planner(checkpoint, plan, { ...options, axes: AXES, folder });
    return work((cuts) => planner.measure(cuts, 0));
  });
}

/**
 * A folder beside the plan's file for the tensors of the model that is measured, and a lock: two runs would overwrite each
 * other's measurements. What a killed run has left there is removed.
 */
async function withWorkFolder<T>(file: string, work: (folder: string) => Promise<T>): Promise<T> {
  const folder = join(dirname(file), `.${basename(file)}.nfc-work`);
  await lockFolder(folder, file);
  try {
    await withIoErrors(folder, () => rm(join(folder, TENSORS_FILE), { force: true }));
    return await work(folder);
  } finally {
    await unlockFolder(folder);
  }
}

function refuseUnplannable(checkpoint: Checkpoint): void {
  refuseClassifier(checkpoint);
  const { config, source } = checkpoint;
  if (config.variant !== "dense")
    throw new NfcError("unsupported", `${source}: is ${config.variant} already, not dense`, {
      hint: "plan with the dense checkpoint that it came from",
    });
}

type PlannerOptions = PlanOptions & { axes: readonly Axis[]; texts: PlanTexts; folder: string };

class Planner {
  private readonly checkpoint: Checkpoint;
  private readonly plan: Plan;
  private readonly options: PlannerOptions;
  private readonly meter: Meter;
  private done = 0;
  /** Measurements that this run has made, and the seconds that they took. */
  private readonly fresh = { count: 0, seconds: 0 };

  constructor(checkpoint: Checkpoint, plan: Plan, options: PlannerOptions) {
    this.checkpoint = checkpoint;
    this.plan = plan;
    this.options = options;
    this.meter = new Meter(checkpoint, options);
  }

  async run(): Promise<Plan> {
    const { plan } = this;
    const { file, isEnough } = this.options;
    const source = await this.measure(
      {},
      plan.axes.reduce((sum, { values }) => sum + values.length, 0),
    );
    const enough = (measurement: PlanMeasurement) => isEnough?.(measurement, source) ?? false;
    let ended = true;
    if (!enough(source))
      await findPath<PlanMeasurement>({
        source,
        axes: plan.axes,
        floor: plan.floor * source.parameters,
        measure: (cuts, left) => this.measure(cuts, left),
        onStep: async ({ axis, value, point }) => {
          plan.steps.push({ axis, value, measurement: plan.measurements.indexOf(point) });
          ended = !enough(point);
          return ended;
        },
      });
    plan.complete = ended;
    await writePlan(file, plan);
    return plan;
  }

  /** Measures what is not known yet, and keeps it. */
  async measure(cuts: Cuts, left: number): Promise<PlanMeasurement> {
    const key = makeKey(cuts);
    const known = this.plan.measurements.find((measurement) => makeKey(measurement.cuts) === key);
    this.done++;
    if (known) return known;
    refuseOtherTool(this.plan, this.options.file);
    this.show(cuts, left + 1);
    const measured = await this.measureNow(cuts);
    this.plan.measurements.push({ cuts, ...measured });
    this.fresh.count++;
    this.fresh.seconds += measured.seconds;
    await writePlan(this.options.file, this.plan);
    return this.plan.measurements.at(-1) as PlanMeasurement;
  }

  private async measureNow(cuts: Cuts) {
    const { file, axes, texts } = this.options;
    try {
      if (Object.keys(cuts).length === 0) return await this.meter.measureSource();
      const options = toCutOptions(cuts, { config: this.checkpoint.config, ...texts }, axes);
      return await this.meter.measureCut(toCutSettings(options));
    } catch (error) {
      const kept = this.plan.measurements.length;
      if (!(error instanceof NfcError) || error.code !== "aborted" || kept === 0) throw error;
      const noun = `${kept} measurement${kept === 1 ? " is" : "s are"}`;
      throw new NfcError("aborted", `interrupted; ${noun} kept in ${file}`, {
        hint: "the same command goes on from there",
        cause: error,
      });
    }
  }

  private show(cuts: Cuts, left: number): void {
    const { count, seconds } = this.fresh;
    const time = count < 2 ? "" : `, about ${formatDuration((left * seconds) / count)} left`;
    const detail = `${describeCuts(cuts)}${time}`;
    this.options.onProgress?.({
      phase: "measuring",
      done: this.done,
      total: this.done + left - 1,
      unit: "steps",
      detail,
    });
  }
}

/** The same text for the same cuts, in whatever order they were made. */
function makeKey(cuts: Cuts): string {
  return JSON.stringify(Object.entries(cuts).sort(([a], [b]) => (a < b ? -1 : 1)));
}
