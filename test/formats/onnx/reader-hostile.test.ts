// Malformed and hostile ONNX files: reading one ends in a sound structure or one line, in bounded time and memory.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { NfcError } from "../../../src/errors.ts";
import { changedProto, externalTensor, type TensorProto } from "../../inference/exported/exported-fixture.ts";
import { failureOf } from "../../support/failure.ts";
import { bytes, key, structureReader, type Write } from "./messages.ts";

const read = structureReader("onnx-hostile");

describe("malformed ONNX files", () => {
  const model = (write: Write) => bytes((w) => write(w.uint32(key(1, 0)).int64(9)));
  const inGraph = (write: Write) => model((w) => write(w.uint32(key(7, 2)).fork()).ldelim());
  const ofTensor = (write: Write) => inGraph((w) => write(w.uint32(key(5, 2)).fork()).ldelim());
  const external = (entries: [string, string][]) =>
    changedProto(({ graph }) => {
      graph.initializer = [externalTensor("w", [4], {})];
      for (const [name, entry] of entries) graph.initializer[0]?.externalData?.push({ key: name, value: entry });
    });
  const cases: [string, Uint8Array, RegExp][] = [
    ["empty", new Uint8Array(0), /holds no graph/],
    ["text", Buffer.from("version of something\n"), /begins a field of unknown kind 6/],
    ["no graph", model((w) => w), /holds no graph/],
    ["no IR version", bytes((w) => w.uint32(key(7, 2)).fork().ldelim()), /no IR version/],
    ["a group", model((w) => w.uint32(key(50, 3))), /unknown kind 3/],
    ["field number 0", model((w) => w.uint32(2)), /begins no protobuf field/],
    [
      "a number of eleven bytes",
      Buffer.concat([Uint8Array.of(8), new Uint8Array(10).fill(255)]),
      /number at byte 1 does not end/,
    ],
    ["a number that is cut off", Uint8Array.of(8, 255), /number at byte 1 does not end/],
    [
      "a length of 2^62",
      model((w) => w.uint32(key(7, 2)).uint64(2 ** 62)),
      /asks for 461168601842738\d+ bytes, 0 are left/,
    ],
    ["a negative length", model((w) => w.uint32(key(7, 2)).int64(-1)), /asks for -1 bytes/],
    ["a field that leaves its message", inGraph((w) => w.uint32(key(5, 2)).uint32(1)), /asks for 1 bytes, 0 are left/],
    ["eight bytes where four are left", model((w) => w.uint32(key(90, 1)).fixed32(0)), /asks for 8 bytes, 4 are left/],
    ["a string for a number", model((w) => w.uint32(key(1, 2)).string("9")), /irVersion of ModelProto .* wrong kind/],
    ["a number for a message", model((w) => w.uint32(key(7, 0)).int32(9)), /graph of ModelProto .* wrong kind/],
    ["malformed UTF-8", model((w) => w.uint32(key(2, 2)).bytes(Uint8Array.of(255, 254))), /not valid UTF-8/],
    ["too long a text", model((w) => w.uint32(key(2, 2)).bytes(new Uint8Array(2 ** 20 + 1))), /too much/],
    [
      "too much text",
      changedProto(({ graph }) => {
        graph.node = Array(17).fill({ opType: "A".repeat(2 ** 20) });
      }),
      /too much/,
    ],
    ["a negative dimension", ofTensor((w) => w.uint32(key(1, 0)).int64(-4)), /impossible shape \[-4\]/],
    ["an endless shape", ofTensor((w) => w.uint32(key(1, 2)).bytes(new Uint8Array(2 ** 14 + 1))), /list .* too long/],
    [
      "2^80 elements",
      changedProto(({ graph }) => {
        graph.initializer = [{ dims: [2 ** 40, 2 ** 40], dataType: 1 }];
      }),
      /impossible shape/,
    ],
    [
      "two weights of one name",
      changedProto(({ graph }) => {
        graph.initializer.push({ name: "wpe.weight" });
      }),
      /"wpe.weight" twice/,
    ],
    [
      "two inputs of one name",
      changedProto(({ graph }) => {
        graph.input.push(...graph.input.slice(0, 1));
      }),
      /"input_ids" twice/,
    ],
    ["external data nowhere", external([]), /"w": external data without a location/],
    [
      "two locations",
      external([
        ["location", "a"],
        ["location", "b"],
      ]),
      /two entries of one name/,
    ],
    [
      "a negative offset",
      external([
        ["location", "a"],
        ["offset", "-1"],
      ]),
      /offset "-1", which is no number of bytes/,
    ],
    [
      "an offset beyond all files",
      external([
        ["location", "a"],
        ["offset", "9".repeat(16)],
      ]),
      /which is no number of bytes/,
    ],
    [
      "a length in hexadecimal",
      external([
        ["location", "a"],
        ["length", "0x10"],
      ]),
      /length "0x10", which is no number/,
    ],
  ];
  it.each(cases)("a malformed ONNX file is refused: %s", async (_, content, message) => {
    const error = await failureOf(() => read(content));
    expect(error.code).toBe("invalid-file");
    expect(error.message).toMatch(message);
    expect(error.message).toMatch(/^\S+\.onnx: /);
  });

  it("a million empty messages are refused", async () => {
    const started = performance.now();
    const node = Uint8Array.of(key(1, 2), 0);
    const graph = Buffer.alloc(2 * 1_000_001, node);
    const error = await failureOf(() => read(model((w) => w.uint32(key(7, 2)).bytes(graph))));
    expect(error.message).toMatch(/more than 1000000 fields/);
    expect(performance.now() - started).toBeLessThan(20_000);
  });

  it("messages within messages are not followed", async () => {
    let nested: Uint8Array = new Uint8Array(0);
    for (let depth = 0; depth < 2000; depth++) {
      const graph = nested; // GraphProto.node → NodeProto.attribute → AttributeProto.g → …
      nested = bytes((w) =>
        w.uint32(key(1, 2)).fork().uint32(key(5, 2)).fork().uint32(key(6, 2)).bytes(graph).ldelim().ldelim(),
      );
    }
    expect((await read(model((w) => w.uint32(key(7, 2)).bytes(nested)))).subgraphs).toEqual([""]);
  });
});

describe("tensors that do not agree with their data", () => {
  const bytesOf = (count: number) => new Uint8Array(count);
  const entries = [{ key: "location", value: "model.onnx_data" }];
  it.each<[string, TensorProto, RegExp]>([
    ["too few bytes", { dims: [2 ** 20], dataType: 1, rawData: bytesOf(8) }, /"w" has 8 bytes, .* ask for 4194304$/],
    ["too many bytes", { dims: [1], dataType: 1, rawData: bytesOf(8) }, /"w" has 8 bytes, .* ask for 4$/],
    ["no data at all", { dims: [4], dataType: 1 }, /"w" has 0 bytes, which are not the 4 of its shape/],
    ["too few floats", { dims: [4], dataType: 1, floatData: [bytesOf(12)] }, /"w" has 12 bytes, which are not the 4/],
    ["too few doubles", { dims: [4], dataType: 11, doubleData: [bytesOf(16)] }, /has 16 bytes, which are not the 4/],
    ["too few integers", { dims: [64], dataType: 7, int64Data: [bytesOf(63)] }, /has 63 bytes, which are not the 64/],
    ["too many integers", { dims: [2], dataType: 6, int32Data: [bytesOf(21)] }, /has 21 bytes, which are not the 2/],
    ["too few strings", { dims: [2], dataType: 8, stringData: [bytesOf(9)] }, /has 1 strings, which are not the 2/],
    ["an unknown type", { dims: [1000], dataType: 99, rawData: bytesOf(9) }, /9 bytes, .* ask for 125 at least$/],
    ["2^80 strings", { dims: [2 ** 40, 2 ** 40], dataType: 8 }, /impossible shape/],
    ["too many dimensions", { dims: Array(33).fill(1), dataType: 2, rawData: bytesOf(1) }, /impossible shape/],
    [
      "two places",
      { dims: [1], dataType: 1, rawData: bytesOf(4), externalData: entries, dataLocation: 1 },
      /"w" has its data in two places/,
    ],
    ["raw and listed", { dims: [1], dataType: 1, rawData: bytesOf(4), floatData: [bytesOf(4)] }, /in two places/],
    [
      "a shorter file",
      { dims: [4], dataType: 1, externalData: [...entries, { key: "length", value: "8" }], dataLocation: 1 },
      /"w" has 8 bytes, .* ask for 16$/,
    ],
  ])("a tensor with %s is refused, as a weight and in an attribute", async (name, tensor, message) => {
    const weight = changedProto(({ graph }) => graph.initializer.push({ name: "w", ...tensor }));
    expect((await failureOf(() => read(weight))).message).toMatch(message);
    if (tensor.externalData) return; // those of attributes are not looked at
    const attribute = changedProto(({ graph }) => {
      graph.node.push({ opType: "Constant", attribute: [{ name: "value", t: { name: "w", ...tensor } }] });
    });
    expect([name, (await failureOf(() => read(attribute))).message]).toEqual([name, expect.stringMatching(message)]);
  });

  it.each<[string, TensorProto]>([
    ["no elements", { dims: [0, 5], dataType: 1 }],
    ["four bits each", { dims: [3], dataType: 22, int32Data: [bytesOf(2)] }],
    ["empty strings", { dims: [2], dataType: 8, stringData: [bytesOf(0), bytesOf(0)] }],
    ["integers of one to ten bytes", { dims: [2], dataType: 7, int64Data: [bytesOf(11)] }],
  ])("a tensor of %s is read", async (_, tensor) => {
    const { initializers } = await read(changedProto(({ graph }) => graph.initializer.push({ name: "w", ...tensor })));
    expect(initializers).toHaveLength(2);
  });
});

describe("logits of another width than declared", () => {
  const matrix = (name: string, dims: number[]): TensorProto => {
    return { name, dims, dataType: 1, rawData: new Uint8Array(4 * dims.reduce((product, dim) => product * dim, 1)) };
  };
  const node = (opType: string, input: string[], output: string, attribute: object[] = []) => {
    return { opType, input, output: [output], attribute };
  };
  /** Logits of 40 by their declaration. */
  const made = (nodes: object[], ...weights: TensorProto[]) =>
    changedProto(({ graph }) => {
      graph.node = nodes as typeof graph.node;
      graph.initializer.push(...weights);
    });
  const refusal = async (...model: Parameters<typeof made>) => (await failureOf(() => read(made(...model)))).message;
  const NARROW = /logits is declared 40 wide, but its weights make it 30 wide$/;

  it("logits that a stored matrix makes narrower are refused, through what keeps their width", async () => {
    expect(await refusal([node("MatMul", ["h", "w"], "logits")], matrix("w", [32, 30]))).toMatch(NARROW);
    const turned = [node("Transpose", ["w"], "t"), node("MatMul", ["h", "t"], "m"), node("Cast", ["m"], "logits")];
    expect(await refusal(turned, matrix("w", [30, 32]))).toMatch(NARROW);
    const gemm = [node("Gemm", ["h", "w"], "g", [{ name: "transB", i: 1 }]), node("Reshape", ["g", "s"], "logits")];
    expect(await refusal(gemm, matrix("w", [30, 32]))).toMatch(NARROW);
    const blocks = [node("MatMulNBits", ["h", "w"], "m", [{ name: "N", i: 30 }]), node("Add", ["m", "b"], "logits")];
    expect(await refusal(blocks, matrix("b", [30]))).toMatch(NARROW);
  });

  it("logits of the declared width, and those whose width does not show, are read", async () => {
    expect(await read(made([node("MatMul", ["h", "w"], "logits")], matrix("w", [32, 40])))).toBeTruthy();
    expect(await read(made([node("MatMul", ["h", "x"], "logits")]))).toBeTruthy();
    expect(await read(made([node("Identity", ["logits"], "logits")]))).toBeTruthy(); // a circle
    const scaled = [node("MatMul", ["h", "w"], "m"), node("Mul", ["m", "s"], "logits")];
    expect(await read(made(scaled, matrix("w", [32, 40]), matrix("s", [1])))).toBeTruthy();
  });
});

describe("ONNX files of any bytes", () => {
  /** Sound: every stored range lies in the file; refused: an NfcError of one line. */
  async function readOrRefuse(content: Uint8Array): Promise<"read" | "refused"> {
    try {
      for (const { offset, byteLength, dims } of (await read(content)).initializers) {
        if (offset !== null) expect(offset + byteLength).toBeLessThanOrEqual(content.byteLength);
        expect(dims.every((dim) => dim >= 0)).toBe(true);
      }
      return "read";
    } catch (error) {
      if (!(error instanceof NfcError)) throw error;
      expect(error.code).toBe("invalid-file");
      expect(error.message).not.toMatch(/[\r\n]/);
      return "refused";
    }
  }
  const valid = changedProto(({ graph }) => {
    graph.initializer = [
      { name: "w", dims: [2, 2], dataType: 1, rawData: new Uint8Array(16) },
      externalTensor("v", [4], { location: "model.onnx_data", offset: "4096", length: "16" }),
    ];
    graph.node.push({
      opType: "If",
      domain: "d",
      attribute: [{ name: "a", i: 1, g: Uint8Array.of(1), t: { dims: [1], dataType: 2, rawData: Uint8Array.of(1) } }],
    });
  });

  it("an ONNX file cut anywhere is refused, or what is left is sound", async () => {
    let refused = 0;
    for (let length = 0; length < valid.byteLength; length++)
      if ((await readOrRefuse(valid.subarray(0, length))) === "refused") refused++;
    expect(refused).toBeGreaterThan(0.9 * valid.byteLength);
    expect(await readOrRefuse(valid)).toBe("read");
  });

  it("an ONNX file of random bytes is refused or sound", async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (content) => void (await readOrRefuse(content))),
      { numRuns: 1000 },
    );
  });

  it("a spoiled ONNX file is refused or sound", async () => {
    const mutation = fc.record({
      at: fc.nat(),
      kind: fc.constantFrom("flip", "set", "insert", "remove"),
      byte: fc.nat(255),
    });
    const outcomes = new Set<string>();
    await fc.assert(
      fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 4 }), async (mutations) => {
        const content = [...valid];
        for (const { at, kind, byte } of mutations) {
          const place = at % content.length;
          if (kind === "flip") content[place] = (content[place] as number) ^ (1 << (byte % 8));
          else if (kind === "set") content[place] = byte;
          else if (kind === "insert") content.splice(place, 0, byte);
          else content.splice(place, 1);
        }
        outcomes.add(await readOrRefuse(Uint8Array.from(content)));
      }),
      { numRuns: 1500 },
    );
    expect([...outcomes].sort()).toEqual(["read", "refused"]);
  });
});
