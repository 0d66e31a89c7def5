// The public API: what `import … from "noiseformer-compiler"` gives.

export { type Baseline, baselineSchema } from "./check/baseline.ts";
export { type CheckedModel, type CheckOptions, type CheckResult, checkSizes } from "./check/check-sizes.ts";
export { type SizeConfig, type SizeEntry, sizeConfigSchema } from "./check/size-config.ts";
export { type Checkpoint, type CheckpointTensor, type OpenOptions, openCheckpoint } from "./checkpoint/checkpoint.ts";
export type { DownloadProgress } from "./checkpoint/hub/hub.ts";
export { type NfcRecord, nfcRecordSchema } from "./checkpoint/nfc-record.ts";
export { loadTokenizer, type Tokenizer } from "./checkpoint/tokenizer.ts";
export { streamTokens } from "./checkpoint/tokens.ts";
export { type ConvertResult, convert } from "./convert/convert.ts";
export { type ConvertOptions, DEFAULT_CALIBRATION_TOKENS, DEFAULT_NOISE_STD } from "./convert/convert-options.ts";
export { TIE_STRATEGIES, type TieStrategy } from "./convert/tie.ts";
export { type FreshOptions, makeFreshModel } from "./distill/fresh-model.ts";
export type { TrainOptions, TrainResult } from "./distill/run.ts";
export { resolveTrainSettings, type TrainMode, type TrainSettings } from "./distill/settings.ts";
export { canTransfer } from "./distill/step/transfer-step.ts";
export { train } from "./distill/train.ts";
export { type ErrorCode, NfcError } from "./errors.ts";
export { type ExportOptions, type ExportResult, exportModel } from "./export/export-model.ts";
export type { OnnxExportOptions } from "./export/onnx/onnx-export.ts";
export type { OnnxFile, WeightStorage } from "./export/onnx/onnx-file.ts";
export type { Verification } from "./export/onnx/verify.ts";
export type { Quantization } from "./export/quantize/settings.ts";
export type { FloatDtype } from "./formats/dtype.ts";
export type { StoredTensor, TensorReader } from "./formats/safetensors/reader.ts";
export type { SessionOptions, Tensors } from "./graph/session.ts";
export {
  chooseFile,
  type ExportedFile,
  type ExportedModel,
  openExportedModel,
} from "./inference/exported/exported-model.ts";
export { Decoder } from "./inference/generate/decoder.ts";
export { type EndTokenSource, readEndTokens } from "./inference/generate/end-tokens.ts";
export {
  type FinishReason,
  type GenerateEvent,
  type GenerateOptions,
  generate,
} from "./inference/generate/generate.ts";
export type { SamplingOptions } from "./inference/generate/sampling.ts";
export type { CheckpointSessionOptions, ModelSession } from "./inference/model-session.ts";
export { type EvaluateOptions, type Evaluation, evaluate, type Score } from "./inference/score/evaluate.ts";
export { recordPerplexity } from "./inference/score/record-perplexity.ts";
export type { TextOptions } from "./io/text.ts";
export type { NoiseMode } from "./model/attention.ts";
export { ACTIVATIONS, type Activation, type ModelConfig, VARIANTS, type Variant } from "./model/config.ts";
export {
  countParameters,
  listParameters,
  PARAMETER_GROUPS,
  type ParameterGroup,
  type ParameterSpec,
} from "./model/parameters.ts";
export type { LongCall, ProgressEvent } from "./progress.ts";
export { type CompareOptions, compareModels } from "./report/comparison/compare-models.ts";
export { renderComparisonPage } from "./report/comparison/comparison-page.ts";
export { type ComparedModel, type Comparison, comparisonSchema } from "./report/comparison/comparison-schema.ts";
export { renderComparisonMarkdown, renderComparisonText } from "./report/comparison/comparison-text.ts";
export { type Inspection, inspect } from "./report/inspect/inspect.ts";
export { renderInspection } from "./report/inspect/inspect-text.ts";
export { renderReportPage } from "./report/page/page.ts";
export {
  type AttentionPair,
  type LearnedNoise,
  type PageData,
  readAttentionPairs,
  readLearnedNoise,
  readTrainingCurves,
  type TrainingCurves,
} from "./report/page/page-data.ts";
export {
  createReport,
  type Measurement,
  type Report,
  type ReportOptions,
  type TaskMeasurement,
} from "./report/report.ts";
export { type ReportTextOptions, renderReportMarkdown, renderReportText } from "./report/report-blocks.ts";
export { formatReport, parseReport, reportSchema } from "./report/schema.ts";
export { Classifier, type ClassifyOptions, scoreAnswers, type TaskScore } from "./tasks/classify.ts";
export { type EncodedExample, encodeExamples } from "./tasks/examples.ts";
export { type GlueCell, type GlueScore, readGlueScores } from "./tasks/glue/cells.ts";
export { type GlueEntry, type GlueOptions, type GlueRow, makeGlueTable } from "./tasks/glue/glue.ts";
export { type Answers, computeMetric, type MetricName } from "./tasks/metrics.ts";
export { readTaskFile, type TaskData, type TaskExample, type TaskReading } from "./tasks/task-file.ts";
export { findTask, TASKS, type Task } from "./tasks/tasks.ts";
export { type FinetuneTaskOptions, type FinetuneTaskResult, finetuneTask } from "./tasks/train/finetune-task.ts";
export type { ClassifierSettings } from "./tasks/train/settings.ts";
export type { TaskSource } from "./tasks/train/task-data.ts";
export { TOOL } from "./version.ts";
