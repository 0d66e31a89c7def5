#!/usr/bin/env bash
# The experiment of docs/plan.md and README.md: every form at the tie's saving, and steps of a plan, converted, distilled and
# scored beside the source trained as long. Done runs are skipped, an interrupted one is resumed.
# Usage: scripts/recovery-experiment.sh BASE TRAIN_TEXT VALID_TEXT OUTPUT [SEEDS] [STEPS]
#   JOBS runs at once (default 1), DEVICE (default cpu), FORMS and CUTS (shares kept, in %) choose some of the models.
# Results: OUTPUT/results.jsonl, a line a model: its name, steps, seed, parameters, perplexity at stride n_positions and 64.
set -euo pipefail
base=$1 text=$2 valid=$3 out=$4 seeds=${5:-"0 1 2"} steps=${6:-500}
forms=${FORMS-"symmetric noise-shared noise-per-head noise-distance pairwise low-rank"} cuts=${CUTS-"90 80 70 55 40"}
nfc=$(realpath "$(dirname "$0")/../bin/nfc.js")
mkdir -p "$out/models" "$out/runs"
ln -sfn "$(realpath "$base")" "$out/models/source"
for form in $forms; do
  [ -e "$out/models/$form" ] || node "$nfc" convert "$base" --variant "$form" --calibration "$text" -o "$out/models/$form" -q
done
if [ -n "$cuts" ] && [ ! -e "$out/plan.json" ]; then
  node "$nfc" plan "$base" --calibration "$text" -o "$out/plan.json" -q > /dev/null
fi
for cut in $cuts; do
  [ -e "$out/models/cut-$cut" ] ||
    node "$nfc" convert "$base" --plan "$out/plan.json" --target "$cut%" --calibration "$text" -o "$out/models/cut-$cut" -q
done

# One model from the list to its line of results: NAME HOW SEED
train_one() {
  local name=$1 how=$2 seed=$3 run resume=() from
  run=$out/runs/$name-$how-$steps-s$seed
  grep -qs "\"run\":\"$(basename "$run")\"" "$out/results.jsonl" && return
  if [ -d "$run.run" ]; then resume=(--resume); fi
  from=("$out/models/$name")
  if [ "$how" = distill ]; then from+=(--teacher "$base"); fi
  [ -e "$run/model.safetensors" ] || node "$nfc" "$how" "${from[@]}" --data "$text" --steps "$steps" --seed "$seed" \
    --device "${DEVICE:-cpu}" -o "$run" -q "${resume[@]}" > /dev/null
  score "$run" "$run" "$how" "$seed"
}

score() {
  local stride
  for stride in "$length" 64; do
    node "$nfc" eval "$2" --text "$valid" --stride "$stride" --device "${DEVICE:-cpu}" --json -q > "$1.$stride.json"
  done
  node -e '
    const [run, how, seed, ...files] = process.argv.slice(1);
    const [wide, narrow] = files.map((file) => JSON.parse(fs.readFileSync(file, "utf8")).perplexity);
    console.log(JSON.stringify({ run, how, seed: Number(seed), perplexity: wide, stride64: narrow }));
  ' "$(basename "$1")" "$3" "$4" "$1.$length.json" "$1.64.json" >> "$out/results.jsonl"
}
export -f train_one score
length=$(node -p "JSON.parse(fs.readFileSync(process.argv[1], 'utf8')).n_positions" "$base/config.json")
export out base text valid steps nfc length

for model in "$out"/models/*; do
  grep -qs "\"run\":\"$(basename "$model")\"" "$out/results.jsonl" || score "$out/runs/$(basename "$model")" "$model" converted 0
done
for seed in $seeds; do
  printf 'source distill %s\nsource finetune %s\n' "$seed" "$seed"
  for model in $forms; do echo "$model distill $seed"; done
  for cut in $cuts; do echo "cut-$cut distill $seed"; done
done | xargs -P "${JOBS:-1}" -L 1 bash -c 'train_one "$@"' _
