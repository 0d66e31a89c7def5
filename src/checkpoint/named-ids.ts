// Numbers the token ids anew that configurations and tokenizer files name.
import { isJsonObject } from "./fields.ts";
import { ID_KEYS, MAX_CONFIG_DEPTH } from "./vocabulary-size.ts";

/** The new id of an old one. */
export type IdMap = (id: number) => number;

/**
 * A config.json, generation_config.json or tokenizer_config.json with the ids that `map` gives: end tokens, padding,
 * suppressed ones and so on. Negative numbers, which stand for none, stay.
 */
export function mapNamedIds(config: Record<string, unknown>, map: IdMap, depth = 0): Record<string, unknown> {
  const entries = Object.entries(config).map(([key, value]): [string, unknown] => {
    if (ID_KEYS.test(key)) return [key, mapValue(key, value, map)];
    return [key, isJsonObject(value) && depth < MAX_CONFIG_DEPTH ? mapNamedIds(value, map, depth + 1) : value];
  });
  return Object.fromEntries(entries);
}

function mapValue(key: string, value: unknown, map: IdMap): unknown {
  if (!Array.isArray(value)) return mapIds(value, map);
  // forced_decoder_ids has pairs of a position and an id, sequence_bias pairs of ids and a number.
  if (key.endsWith("decoder_ids"))
    return value.map((pair) => (Array.isArray(pair) ? [pair[0], ...pair.slice(1).map((id) => mapIds(id, map))] : pair));
  if (key === "sequence_bias")
    return value.map((pair) => (Array.isArray(pair) ? [mapIds(pair[0], map), ...pair.slice(1)] : pair));
  return mapIds(value, map);
}

/** Maps the ids in lists at any depth. */
function mapIds(value: unknown, map: IdMap): unknown {
  if (Array.isArray(value)) return value.map((item) => mapIds(item, map));
  return typeof value === "number" && Number.isInteger(value) && value >= 0 ? map(value) : value;
}

/** The post_processor of a tokenizer.json, whose templates name special tokens with their ids. */
export function mapPostProcessor(value: unknown, map: IdMap): unknown {
  if (Array.isArray(value)) return value.map((item) => mapPostProcessor(item, map));
  if (!isJsonObject(value)) return value;
  const entries = Object.entries(value).map(([key, item]): [string, unknown] => {
    if (key === "ids") return [key, mapIds(item, map)];
    if ((key === "sep" || key === "cls") && Array.isArray(item)) return [key, [item[0], mapIds(item[1], map)]];
    return [key, mapPostProcessor(item, map)];
  });
  return Object.fromEntries(entries);
}
