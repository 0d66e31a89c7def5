#!/usr/bin/env bash
# Pretrains the second base of the documentation's experiments: 8 layers, width 384, 12 heads of 32, on 30.3 M tokens
# (7,400 steps of 4,096). An interrupted run goes on where it stopped.
# Usage: scripts/second-base.sh TOKENIZER_FOLDER TRAIN_TEXT OUTPUT [DEVICE]
set -euo pipefail
tokenizer=$1 text=$2 out=$3 device=${4:-cpu}
nfc() { node "$(dirname "$0")/../bin/nfc.js" "$@"; }
recipe=$out.recipe
if [ ! -e "$recipe/config.json" ]; then
  mkdir -p "$recipe"
  cp "$tokenizer"/tokenizer*.json "$recipe"
  node -e '
    const [from, to] = process.argv.slice(1);
    const { vocab_size, bos_token_id, eos_token_id } = JSON.parse(fs.readFileSync(`${from}/config.json`, "utf8"));
    const shape = { model_type: "gpt2", n_layer: 8, n_embd: 384, n_head: 12, n_positions: 256, n_inner: null };
    const rest = { activation_function: "gelu_new", layer_norm_epsilon: 1e-5, vocab_size, bos_token_id, eos_token_id };
    fs.writeFileSync(`${to}/config.json`, JSON.stringify({ ...shape, ...rest }, null, 2));
  ' "$tokenizer" "$recipe"
fi
resume=()
if [ -d "$out.run" ]; then resume=(--resume); fi
nfc pretrain --config "$recipe/config.json" --variant dense --data "$text" --steps 7400 --length 256 --seed 0 \
  --device "$device" -o "$out" "${resume[@]}"
