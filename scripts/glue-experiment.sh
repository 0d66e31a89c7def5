#!/usr/bin/env bash
# The experiment of docs/glue.md: every variant of a dense model, distilled, then fine-tuned on five tasks of GLUE; and
# each from scratch.
# Usage: scripts/glue-experiment.sh BASE TRAIN_TEXT GLUE_FOLDER OUTPUT [SEEDS]
set -euo pipefail
base=$1 text=$2 glue=$3 out=$4 seeds=${5:-1}
nfc() { node "$(dirname "$0")/../bin/nfc.js" "$@"; }
mkdir -p "$out"
ln -sfn "$(realpath "$base")" "$out/base"
models=$out/base
for variant in symmetric noise-shared noise-per-head noise-distance; do
  if [ ! -e "$out/$variant" ]; then
    nfc convert "$base" --variant "$variant" --calibration "$text" -o "$out/$variant-converted" --force
    resume=(); [ -e "$out/$variant.run" ] && resume=(--resume)
    nfc distill "$out/$variant-converted" --teacher "$base" --data "$text" --steps 500 -o "$out/$variant" "${resume[@]}"
  fi
  models=$models,$out/$variant
done
table() { nfc glue --models "$models" --data "$glue" -o "$out/cells" --seeds "$seeds" --lr 3e-4 --split-dev 0.2 "$@"; }
for task in rte mrpc cola qnli; do table --tasks "$task" --epochs 3; done
table --tasks sst2 --epochs 1
# From scratch under equal budgets: the same windows in the same order, 4.1 M tokens each.
for variant in dense symmetric noise-shared noise-per-head noise-distance; do
  scratch=$out/scratch-$variant
  [ -e "$scratch" ] && continue
  resume=(); [ -e "$scratch.run" ] && resume=(--resume)
  nfc pretrain --config "$base/config.json" --tokenizer "$base" --variant "$variant" --data "$text" --steps 1000 \
    -o "$scratch" "${resume[@]}"
done
