#!/usr/bin/env bash
# On a machine with a GPU, from the bundle in .gpu/ (pack.mjs): is WebGPU right, and how fast is it beside PyTorch?
# Usage: bench/gpu/run.sh [SIZES] [BATCH] [LENGTH] [STEPS]   (default: "small medium" 8 512 8). PYTHON names a Python with
# torch and safetensors; without one, nfc runs alone. Everything is written below $OUT, or to the terminal.
set -uo pipefail
SIZES=${1:-"small medium"} BATCH=${2:-8} LENGTH=${3:-512} STEPS=${4:-8}
export ORT_DISABLE_TELEMETRY=1 NO_COLOR=1 XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-$(mktemp -d)}
ROOT=$(cd "$(dirname "$0")/../.." && pwd)
W=$(mktemp -d)
OUT=${OUT:-$W/out}
mkdir -p "$OUT" "$W/node_modules"
tar -xJf "$ROOT/.gpu/node.tar.xz" -C "$W"
tar -xJf "$ROOT/.gpu/nfc.tar.xz" -C "$W"
for part in deps onnxruntime; do tar -xJf "$ROOT/.gpu/$part.tar.xz" -C "$W/node_modules"; done
export PATH="$W:$PATH"
cd "$W" || exit 1
section() { echo; echo "== $1"; }
nfc() { node bin/nfc.js "$@"; }

section "the machine"
nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used --format=csv 2>/dev/null || echo "no nvidia-smi"
timeout 60 node bin/nfc.js devices

section "losses of every form, on the CPU and on WebGPU"
for variant in symmetric noise-shared noise-per-head noise-distance pairwise low-rank; do
  nfc convert fixtures/tiny-gpt2 --variant $variant --calibration fixtures/train.txt -o m/$variant -q > /dev/null || continue
  for device in cpu webgpu; do
    nfc distill m/$variant --teacher fixtures/tiny-gpt2 --data fixtures/train.txt --steps 20 --length 64 --batch-size 8 \
      --transfer-steps 5 --eval-every 20 --device $device -o m/$variant-$device -q > /dev/null || echo "$variant fails on $device"
  done
  node bench/gpu/compare.mjs $variant m/$variant-cpu/metrics.jsonl m/$variant-webgpu/metrics.jsonl
done

for size in $SIZES; do
  section "a distillation step of GPT-2 $size, B = $BATCH, T = $LENGTH"
  train() { timeout 150 node bench/training.mjs --size "$size" --batch "$BATCH" --length "$LENGTH" --steps "$STEPS" --device webgpu "$@"; }
  if [ -n "${PYTHON:-}" ]; then
    for precision in fp32 tf32 bf16; do
      echo "-- PyTorch $precision"
      train --python "$PYTHON" --torch-device "${TORCH_DEVICE:-cuda}" --precision $precision | tail -4
    done
  else
    train | tail -3
  fi
  nvidia-smi --query-gpu=memory.used --format=csv,noheader 2>/dev/null
done
rm -rf "$W/m"
