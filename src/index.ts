// The public API: what `import … from "noiseformer-compiler"` gives.
export { type ConvertResult, convert } from "./convert/convert.ts";
export { type ConvertOptions, DEFAULT_CALIBRATION_TOKENS, DEFAULT_NOISE_STD } from "./convert/convert-options.ts";
export { TIE_STRATEGIES, type TieStrategy } from "./convert/tie.ts";
export type { ClassifierSettings } from "./distill/classifier-settings.ts";
export { type FinetuneTaskOptions, type FinetuneTaskResult, finetuneTask } from "./distill/finetune-task.ts";
export { type FreshOptions, freshModel } from "./distill/fresh-model.ts";
export { type GlueEntry, type GlueOptions, type GlueRow, glueTable } from "./distill/glue.ts";
export { type GlueCell, type GlueScore, glueScores } from "./distill/glue-cells.ts";
export type { TrainOptions, TrainResult } from "./distill/run.ts";
export type { TaskSource } from "./distill/task-data.ts";
export { train } from "./distill/train.ts";
export { type TrainSettings, type TrainTask, trainSettings } from "./distill/train-settings.ts";
export { canTransfer } from "./distill/transfer-step.ts";
export { type ErrorCode, NfcError } from "./errors.ts";
export { type Baseline, baselineSchema } from "./export/check/baseline.ts";
export { type CheckedModel, type CheckOptions, type CheckResult, checkSizes } from "./export/check/check-sizes.ts";
export { type SizeConfig, type SizeEntry, sizeConfigSchema } from "./export/check/size-config.ts";
export { type CompareOptions, compareModels } from "./export/comparison/compare-models.ts";
export { comparisonPage } from "./export/comparison/comparison-page.ts";
export { type ComparedModel, type Comparison, comparisonSchema } from "./export/comparison/comparison-schema.ts";
export { comparisonMarkdown, comparisonText } from "./export/comparison/comparison-text.ts";
export type { OnnxOptions } from "./export/export-entries.ts";
export { type ExportOptions, type ExportResult, exportModel } from "./export/export-model.ts";
export type { OnnxFile, WeightStorage } from "./export/export-onnx.ts";
export { type Inspection, inspect } from "./export/inspect.ts";
export { inspectionText } from "./export/inspect-text.ts";
export { reportPage } from "./export/page/page.ts";
export {
  type AttentionPair,
  attentionPairs,
  type LearnedNoise,
  learnedNoise,
  type PageData,
  type TrainingCurves,
  trainingCurves,
} from "./export/page/page-data.ts";
export type { Quantisation } from "./export/quantise/quantisation.ts";
export {
  createReport,
  type Measurement,
  type Report,
  type ReportOptions,
  type TaskMeasurement,
} from "./export/report.ts";
export { reportMarkdown } from "./export/report-markdown.ts";
export { formatReport, parseReport, reportSchema } from "./export/report-schema.ts";
export { type ReportTextOptions, reportText } from "./export/report-text.ts";
export type { Verification } from "./export/verify.ts";
export type { SessionOptions, Tensors } from "./graph/session.ts";
export { Decoder } from "./inference/decoder.ts";
export { type EndTokenSource, endTokens } from "./inference/end-tokens.ts";
export { type EvaluateOptions, type Evaluation, evaluate, type Score } from "./inference/evaluate.ts";
export { type ExportedFile, type ExportedModel, exportedFile, openExportedModel } from "./inference/exported-model.ts";
export { type FinishReason, type GenerateEvent, type GenerateOptions, generate } from "./inference/generate.ts";
export type { CheckpointSessionOptions, ModelSession } from "./inference/model-session.ts";
export { recordPerplexity } from "./inference/record-perplexity.ts";
export type { SamplingOptions } from "./inference/sampling.ts";
export { type EncodedExample, encodeExamples } from "./inference/tasks/batches.ts";
export { Classifier, type ClassifyOptions, scoreOf, type TaskScore } from "./inference/tasks/classify.ts";
export { type Answers, type MetricName, metric } from "./inference/tasks/metrics.ts";
export { readTaskFile, type TaskData, type TaskExample, type TaskReading } from "./inference/tasks/task-file.ts";
export { TASKS, type Task, taskOf } from "./inference/tasks/tasks.ts";
export type { FloatDtype } from "./io/dtype.ts";
export type { StoredTensor, TensorReader } from "./io/safetensors-reader.ts";
export type { TextOptions } from "./io/text.ts";
export type { NoiseMode } from "./model/attention.ts";
export { type Checkpoint, type CheckpointTensor, type OpenOptions, openCheckpoint } from "./model/checkpoint.ts";
export { ACTIVATIONS, type Activation, type ModelConfig, VARIANTS, type Variant } from "./model/config.ts";
export type { DownloadProgress } from "./model/hub.ts";
export { type NfcRecord, nfcRecordSchema } from "./model/nfc-record.ts";
export {
  PARAMETER_GROUPS,
  type ParameterGroup,
  type ParameterSpec,
  parameterCount,
  parameterSpecs,
} from "./model/parameters.ts";
export { loadTokenizer, type Tokenizer } from "./model/tokenizer.ts";
export { tokenStream } from "./model/tokens.ts";
export type { LongCall, ProgressEvent } from "./progress.ts";
export { TOOL } from "./version.ts";
