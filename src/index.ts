// The main entry point: a verb for each step of the toolchain, and the types that their options and results name.

export { type CheckedModel, type CheckOptions, type CheckResult, checkSizes } from "./check/check-sizes.ts";
export { type Checkpoint, type CheckpointTensor, type OpenOptions, openCheckpoint } from "./checkpoint/checkpoint.ts";
export type { ModelFiles } from "./checkpoint/collect-files.ts";
export type { TokenIds } from "./checkpoint/encoding/encode-pool.ts";
export type { ExportEntry, NfcRecord } from "./checkpoint/nfc-record.ts";
export type { RankChoice } from "./convert/attention/ranks.ts";
export type { TieStrategy } from "./convert/attention/tie.ts";
export { type ConvertResult, convert } from "./convert/convert.ts";
export type { ConvertOptions } from "./convert/convert-options.ts";
export type { LayerSettings, MlpSettings } from "./convert/cuts/axis-settings.ts";
export type { VocabularySettings } from "./convert/cuts/vocabulary-choice.ts";
export type { Plan, PlanMeasurement } from "./convert/plan/plan-file.ts";
export { type PlanOptions, planModel } from "./convert/plan/plan-model.ts";
export type { PlanTextOptions } from "./convert/plan/plan-text.ts";
export type { FreshOptions } from "./distill/fresh-model.ts";
export type { Given } from "./distill/resolve-settings.ts";
export { makeDistillFiles } from "./distill/script-files.ts";
export type { ScriptSettings } from "./distill/script-settings.ts";
export { type PretrainOptions, pretrain, type TrainOptions, type TrainResult, train } from "./distill/train.ts";
export type { TrainMode, TrainSettings } from "./distill/train-settings.ts";
export type { TrainedModel } from "./distill/trained-model.ts";
export { type ErrorCode, NfcError } from "./errors.ts";
export { type ExportOptions, type ExportResult, exportModel } from "./export/export-model.ts";
export type { OnnxExportOptions } from "./export/onnx/onnx-export.ts";
export type { OnnxFile, WeightStorage } from "./export/onnx/onnx-file.ts";
export type { Verification } from "./export/onnx/verify.ts";
export type { Dtype, FloatDtype } from "./formats/dtype.ts";
export type { GgufPrecision } from "./formats/gguf/types.ts";
export type { StoredTensor, TensorReader } from "./formats/safetensors/reader.ts";
export type { BlockBits } from "./graph/passes/quantized-blocks.ts";
export type { Device, SessionOptions } from "./graph/session.ts";
export { type ExportedFile, type ExportedModel, openExportedModel } from "./inference/exported/exported-model.ts";
export type { DecodeOptions, FinishReason, GenerateEvent } from "./inference/generate/generate.ts";
export { type GenerateOptions, generate } from "./inference/generate/generate-text.ts";
export type { SamplingOptions } from "./inference/generate/sampling.ts";
export { type EvaluateOptions, type Evaluation, evaluate, type Score } from "./inference/score/evaluate.ts";
export type { WindowOptions } from "./inference/score/scored-text.ts";
export type { NoiseMode } from "./model/attention.ts";
export type { Activation, ModelConfig } from "./model/config.ts";
export type { ParameterGroup } from "./model/parameters.ts";
export type { Precision } from "./model/precision.ts";
export type { Quantization, QuantizationOptions } from "./model/quantization.ts";
export type { Variant } from "./model/variants.ts";
export type { LongCall, ProgressEvent } from "./progress.ts";
export { type Inspection, inspect } from "./report/inspect/inspect.ts";
export {
  createReport,
  type Measurement,
  type Report,
  type ReportOptions,
  type TaskMeasurement,
} from "./report/report.ts";
export type { ModelSummary, ReportedScore } from "./report/report-schema.ts";
export type { TaskScore } from "./tasks/classify.ts";
export type { Task } from "./tasks/glue-tasks.ts";
export { type FinetuneTaskOptions, type FinetuneTaskResult, finetuneTask } from "./tasks/train/finetune-task.ts";
export type { ClassifierSettings } from "./tasks/train/settings.ts";
