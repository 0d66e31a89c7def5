#!/usr/bin/env bash
# On a machine with a GPU, from the bundle in .gpu/ (pack.mjs): is WebGPU right, and how fast is it beside PyTorch?
# Usage: bench/gpu/run.sh [SIZES] [BATCH] [LENGTH] [STEPS]   (default: "small medium" 8 512 6)
# PYTHON names a Python with torch and safetensors; without one, nfc runs alone. FORMS, PRECISIONS, PROMPT and NEW say what
# is compared and how long a text is read and written. All figures are lines of JSON in $OUT/figures.jsonl.
# About three minutes on a machine of 16 cores. Every part has its own time limit, and one that fails stops no other;
# PATIENCE multiplies the limits, for software adapters.
set -uo pipefail
SIZES=${1:-"small medium"} BATCH=${2:-8} LENGTH=${3:-512} STEPS=${4:-6}
FORMS=${FORMS:-"symmetric noise-shared noise-per-head noise-distance pairwise low-rank"}
PRECISIONS=${PRECISIONS:-fp32,fp16,q4} PROMPT=${PROMPT:-512} NEW=${NEW:-64} PATIENCE=${PATIENCE:-1}
TORCH_DEVICE=${TORCH_DEVICE:-cuda}
ROOT=$(cd "$(dirname "$0")/../.." && pwd)
W=$(mktemp -d)
trap 'rm -rf "$W"' EXIT
OUT=$(realpath -m "${OUT:-$(mktemp -d)}")
export ORT_DISABLE_TELEMETRY=1 NO_COLOR=1 XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-$W} TMPDIR=$W PATH="$W:$PATH"
export NFC_BENCH_FIGURES="$OUT/figures.jsonl" TORCHINDUCTOR_CACHE_DIR="$W/inductor"
CORES=$(nproc)
THREADS=$((CORES < 8 ? CORES : 8))
mkdir -p "$OUT" "$W/node_modules" "$W/m/log"
: > "$NFC_BENCH_FIGURES"
tar -xJf "$ROOT/.gpu/node.tar.xz" -C "$W" &
tar -xJf "$ROOT/.gpu/nfc.tar.xz" -C "$W" &
for part in deps onnxruntime; do tar -xJf "$ROOT/.gpu/$part.tar.xz" -C "$W/node_modules" & done
wait
cd "$W" || exit 1

section() { echo; echo "== $1 [$SECONDS s]"; }
# limit SECONDS NAME COMMAND...: says what failed, and how
limit() {
  timeout -k 5 $(($1 * PATIENCE)) "${@:3}"
  local status=$?
  [ $status = 0 ] && return 0
  [ $status -ge 124 ] && echo "$2: stopped after $(($1 * PATIENCE)) s" >&2 || echo "$2: failed ($status)" >&2
  return 1
}
nfc() { limit "$1" "nfc $2 ${3:-}" node bin/nfc.js "${@:2}"; }

# check_form NAME: 20 steps on each device at once
check_form() {
  nfc 60 convert fixtures/tiny-gpt2 --variant "$1" --calibration fixtures/train.txt -o "m/$1" -q > /dev/null || return
  for device in cpu webgpu; do
    nfc 60 distill "m/$1" --teacher fixtures/tiny-gpt2 --data fixtures/train.txt --steps 20 --batch-size "$BATCH" \
      --length $((LENGTH < 64 ? LENGTH : 64)) --threads 2 --transfer-steps 5 --eval-every 20 --device $device -o "m/$1-$device" -q > "m/log/$1-$device" &
  done
  wait
  [ -f "m/$1-cpu/metrics.jsonl" ] && [ -f "m/$1-webgpu/metrics.jsonl" ] &&
    node bench/gpu/compare.mjs "$1" "m/$1-cpu/metrics.jsonl" "m/$1-webgpu/metrics.jsonl"
}
# make_models SIZE: a teacher, its students and, for the first size, their exports, below m/SIZE
make_models() {
  mkdir -p "m/$1/onnx"
  limit 60 "a model of size $1" node bench/make-model.mjs "m/$1/dense" "$1" || return
  export_model "$1" dense &
  nfc 60 convert "m/$1/dense" --variant symmetric --tie mean -o "m/$1/symmetric" -q > "m/log/$1-symmetric" && {
    export_model "$1" symmetric &
    compile_torch "$1" &
  }
  [ "$1" = "${SIZES%% *}" ] && nfc 60 convert "m/$1/dense" --variant low-rank -o "m/$1/low-rank" -q > "m/log/$1-low-rank" &&
    export_model "$1" low-rank
  wait
}
export_model() {
  [ "$1" != "${SIZES%% *}" ] || nfc 90 export "m/$1/$2" --precision "$PRECISIONS" -o "m/$1/onnx/$2" -q > "m/log/$1-$2-onnx"
}
# compile_torch SIZE: PyTorch keeps what it compiles in TORCHINDUCTOR_CACHE_DIR
compile_torch() {
  [ -n "${PYTHON:-}" ] && [ "$1" = "${SIZES%% *}" ] || return 0
  local settings='{"student":"m/'$1'/symmetric","teacher":"m/'$1'/dense","batch":'$BATCH',"length":'$LENGTH',"threads":2'
  settings+=',"kd":0.5,"lr":1e-4,"decay":0.01,"clip":1,"torchDevice":"'$TORCH_DEVICE'","precision":"bf16"}'
  node -p "JSON.stringify({ tokens: Array($BATCH * ($LENGTH + 1)).fill(1) })" |
    limit 90 "PyTorch compiles" "$PYTHON" bench/training_torch.py "$settings" > m/log/compile 2>&1
}
# train SIZE STEPS SECONDS PRECISIONS [FLAGS]: without precisions, nfc alone
train() {
  [ -f "m/$1/symmetric/model.safetensors" ] || { echo "there are no models of size $1"; return; }
  local log torch=()
  log=$(mktemp)
  [ -n "${PYTHON:-}" ] && [ -n "$4" ] && torch=(--python "$PYTHON" --torch-device "$TORCH_DEVICE" --precision "$4")
  limit "$3" "$1" node bench/training.mjs --size "$1" --student "m/$1/symmetric" --teacher "m/$1/dense" --batch "$BATCH" \
    --length "$LENGTH" --steps "$2" --threads "$THREADS" --device webgpu "${torch[@]}" "${@:5}" 2> "$log"
  [ $? = 0 ] || grep -m 3 -E 'Error|stopped|failed' "$log"
}

section "the machine"
nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used --format=csv 2> /dev/null || echo "no nvidia-smi"
nfc 60 devices

section "losses of every form, on the CPU and on WebGPU"
for size in $SIZES; do make_models "$size" & done
for form in $FORMS; do
  check_form "$form" > "m/log/$form" 2>&1 &
  while [ "$(jobs -rp | wc -l)" -gt "$CORES" ]; do wait -n; done
done
wait
for form in $FORMS; do cat "m/log/$form"; done

first=${SIZES%% *}
section "a distillation step of GPT-2 $first, B = $BATCH, T = $LENGTH"
train "$first" "$STEPS" 90 fp32,tf32
# Two threads of many: what runs beside them hardly notices.
train "$first" 1 90 "" --device cpu --threads 2 > m/log/cpu-step &
[ -z "${PYTHON:-}" ] || { section "beside PyTorch in bfloat16, compiled"; train "$first" "$STEPS" 100 bf16; }
section "with fp16 products"
train "$first" "$STEPS" 60 fp32 --device-precision fp16
for size in ${SIZES#"$first"}; do
  section "a distillation step of GPT-2 $size, B = $BATCH, T = $LENGTH"
  train "$size" 3 90 fp32
done

section "exports of GPT-2 $first: $PROMPT tokens read, then $NEW written"
for device in webgpu cpu; do
  limit 60 "exports on $device" node bench/inference.mjs "m/$first/onnx/"{dense,symmetric,low-rank} --engines nfc --runs 1 \
    --precision "$([ $device = cpu ] && echo fp32 || echo "$PRECISIONS")" --threads "$THREADS" --device $device \
    --prompt "$PROMPT" --new "$NEW"
done
section "a step of GPT-2 $first on two threads of the CPU"
wait
cat m/log/cpu-step
section "figures: $NFC_BENCH_FIGURES"
