// Reads the model of an ONNX file without the bytes of its weights, which it then names by their places in the same file.
import { basename } from "node:path";
import { type PositionalFile, withFile } from "../../io/positional-file.ts";
import { encodeHead, encodeMessage } from "./encode.ts";
import { type ByteRange, ProtobufScanner } from "./protobuf-scanner.ts";
import { EXTERNAL, findSchema } from "./schema.ts";

/** Weights below this stay in the model. ONNX Runtime looks at the values of small tensors when it builds a graph. */
const LEAST_OUTSIDE = 4096;

const idOf = (message: string, name: string) =>
  [...findSchema(message).values()].find((field) => field.name === name)?.id;
const GRAPH = idOf("ModelProto", "graph");
const INITIALIZER = idOf("GraphProto", "initializer");
const RAW_DATA = idOf("TensorProto", "rawData");

/** The parts of a message in their order: places in the file, and bytes that stand for others. */
type Part = ByteRange | Uint8Array;

/**
 * The model with the raw data of its weights as external data of the file itself, so that a runtime can map the weights into
 * memory instead of copying them. All other bytes are those of the file; data that lies in other files stays there.
 * @throws NfcError "invalid-file" for bytes that are no protobuf message, "not-found", "io"
 */
export function readModelOutsideWeights(path: string): Promise<Uint8Array> {
  return withFile(path, async (file) => {
    const scanner = new ProtobufScanner(file);
    const model = await replace(scanner, scanner.whole, GRAPH, async (graph) =>
      frame(
        "ModelProto",
        "graph",
        await replace(scanner, graph, INITIALIZER, (tensor) => moveOut(scanner, tensor, path)),
      ),
    );
    return Buffer.concat(await Promise.all(model.map((part) => readPart(file, part))));
  });
}

/** The parts of a message, in which each field of number `id` is replaced. Neighboring places become one. */
async function replace(
  scanner: ProtobufScanner,
  message: ByteRange,
  id: number | undefined,
  content: (field: ByteRange) => Promise<Part[] | null>,
): Promise<Part[]> {
  const parts: Part[] = [];
  let kept = { begin: message.begin, end: message.begin };
  await scanner.scan(message, async (field) => {
    const replaced = field.id === id && field.wire === 2 ? await content(field) : null;
    if (replaced) {
      parts.push(kept, ...replaced);
      kept = { begin: field.end, end: field.end };
    } else kept.end = field.end;
  });
  parts.push(kept);
  return parts.filter((part) => measure(part) > 0);
}

/** A tensor whose raw data is named as a place in the file; null where it stays as it is. */
async function moveOut(scanner: ProtobufScanner, tensor: ByteRange, path: string): Promise<Part[] | null> {
  let data: ByteRange | undefined;
  const rest = await replace(scanner, tensor, RAW_DATA, async ({ begin, end }) => {
    if (end - begin < LEAST_OUTSIDE) return null;
    data = { begin, end };
    return [];
  });
  if (!data) return null;
  const place = { location: basename(path), offset: String(data.begin), length: String(data.end - data.begin) };
  const externalData = Object.entries(place).map(([key, value]) => ({ key, value }));
  return frame("GraphProto", "initializer", [
    ...rest,
    encodeMessage("TensorProto", { externalData, dataLocation: EXTERNAL }),
  ]);
}

/** A field of a stated length. */
function frame(message: string, name: string, content: readonly Part[]): Part[] {
  return [
    encodeHead(
      message,
      name,
      content.reduce((sum, part) => sum + measure(part), 0),
    ),
    ...content,
  ];
}

const measure = (part: Part): number => (part instanceof Uint8Array ? part.byteLength : part.end - part.begin);

function readPart(file: PositionalFile, part: Part): Promise<Uint8Array> | Uint8Array {
  return part instanceof Uint8Array ? part : file.read(part.begin, part.end - part.begin);
}
