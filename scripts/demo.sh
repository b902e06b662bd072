#!/usr/bin/env bash
# The main job on the embedded example: set-up, build, quantize for the cpu target, evaluate three ways, prove.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh
scripts/build.sh release -DQUERN_TESTS=OFF | tail -n 1
quern=build/release/bin/quern
config=examples/digits/digits.yaml
out=build/demo
export OMP_WAIT_POLICY=passive

"$quern" quantize "$config" -o "$out"

value() { "$quern" evaluate "$config" --model "$1" --as "$2" --json 2>/dev/null | sed -n 's/.*"value": *\([0-9.]*\).*/\1/p'; }
milliseconds() { "$quern" bench "$1" --as "$2" --batch 1 --threads 1 --json 2>/dev/null | sed -n 's/.*"median_ms": *\([0-9.e-]*\).*/\1/p'; }
bytes() { stat -c %s "$1"; }

echo
echo "top-1      float      $(value examples/digits/digits.onnx float)"
echo "           simulated  $(value "$out" simulated)"
if "$quern" verify "$out" --samples 1 >/dev/null 2>&1; then
  echo "           integer    $(value "$out" integer)"
  echo "file       float      $(bytes examples/digits/digits.onnx) bytes"
  echo "           int8 QDQ   $(bytes "$out/model.onnx") bytes"
  echo "1 sample   float      $(milliseconds examples/digits/digits.onnx float) ms"
  echo "           integer    $(milliseconds "$out" integer) ms"
  echo
  "$quern" verify "$out" 2>/dev/null
else
  echo "           integer    not on this machine:"
  "$quern" verify "$out" --samples 1 || true
fi
