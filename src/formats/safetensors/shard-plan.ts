// Decides which tensors go into which file: one file, or Hugging Face's numbered shards with their index.
import { NfcError } from "../../errors.ts";
import { countBytes, countElements, type Dtype } from "../dtype.ts";
import { compareCodePoints, encodeHeader, type TensorInfo } from "./header.ts";

const SINGLE_FILE = "model.safetensors";
export const INDEX_FILE = "model.safetensors.index.json";
/** transformers before 5 crashes on a file without this entry, so every shard has it. */
const FORMAT_METADATA = { format: "pt" } as const;

interface Sized {
  name: string;
  dtype: Dtype;
  shape: readonly number[];
}

/** One file to write: `header`, then the tensors in this order. */
export interface PlannedFile {
  name: string;
  header: Uint8Array;
  order: TensorInfo[];
  /** Header and data. */
  bytes: number;
}

/** All files of a checkpoint; `index` is the text of {@link INDEX_FILE} when there are several. */
export interface WritePlan {
  files: PlannedFile[];
  index: string | undefined;
}

/**
 * Plans the files of a checkpoint before a byte is written. Shards are filled in the given order with up to
 * `maxShardSize` tensor bytes; a larger tensor gets a shard of its own.
 * @throws NfcError `usage` for a bad limit or tensors that cannot be written.
 */
export function planFiles(
  tensors: readonly Sized[],
  metadata: Readonly<Record<string, string>>,
  maxShardSize: number | undefined,
): WritePlan {
  encodeHeader(tensors, {}); // checks shapes, and that a name stands once in the whole checkpoint, not only in its shard
  const groups = maxShardSize === undefined ? [[...tensors]] : fillShards(tensors, maxShardSize);
  const count = groups.length;
  const files = groups.map((group, i) =>
    planFile(count === 1 ? SINGLE_FILE : nameShard(i + 1, count), group, metadata),
  );
  return { files, index: count === 1 ? undefined : formatIndex(files) };
}

function fillShards(tensors: readonly Sized[], maxShardSize: number): Sized[][] {
  if (!Number.isSafeInteger(maxShardSize) || maxShardSize <= 0) {
    throw new NfcError("usage", `${maxShardSize} is no size for a shard: a positive number of bytes is needed`);
  }
  const groups: Sized[][] = [];
  let group: Sized[] = [];
  let filled = 0;
  for (const tensor of tensors) {
    const bytes = countBytes(tensor.dtype, tensor.shape);
    if (group.length > 0 && filled + bytes > maxShardSize) {
      groups.push(group);
      group = [];
      filled = 0;
    }
    group.push(tensor);
    filled += bytes;
  }
  return [...groups, group];
}

function nameShard(number: number, count: number): string {
  const padded = (value: number) => String(value).padStart(5, "0");
  return `model-${padded(number)}-of-${padded(count)}.safetensors`;
}

function planFile(name: string, tensors: readonly Sized[], metadata: Readonly<Record<string, string>>): PlannedFile {
  const { bytes: header, order } = encodeHeader(tensors, { ...metadata, ...FORMAT_METADATA });
  return { name, header, order, bytes: header.byteLength + (order.at(-1)?.end ?? 0) };
}

/** As Hugging Face writes it: keys sorted, two spaces, a line break at the end. */
function formatIndex(files: readonly PlannedFile[]): string {
  const entries = files.flatMap((file) => file.order.map((tensor) => ({ ...tensor, file: file.name })));
  const totalParameters = entries.reduce((sum, { shape }) => sum + countElements(shape), 0);
  const totalSize = entries.reduce((sum, { begin, end }) => sum + end - begin, 0);
  entries.sort((a, b) => compareCodePoints(a.name, b.name));
  const lines = entries.map(({ name, file }) => `    ${JSON.stringify(name)}: ${JSON.stringify(file)}`);
  const metadata = `    "total_parameters": ${totalParameters},\n    "total_size": ${totalSize}`;
  return `{\n  "metadata": {\n${metadata}\n  },\n  "weight_map": {\n${lines.join(",\n")}\n  }\n}\n`;
}
