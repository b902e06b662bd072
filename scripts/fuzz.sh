#!/usr/bin/env bash
# Fuzzing with libFuzzer, address and undefined behaviour sanitizers: scripts/fuzz.sh [TARGET|all] [SECONDS]. Not part of CI.
#
#   scripts/fuzz.sh                  # every target, 60 seconds each, one after the other
#   scripts/fuzz.sh onnx 600
#   build/fuzz/bin/fuzz_onnx build/fuzz/findings/onnx/crash-...     # a finding again
#
# Targets are tests/fuzz/*.cpp. Seeds are made anew by the targets themselves (build/fuzz/seeds), what is found on the way is kept
# (build/fuzz/corpus), an input that crashes, hangs for 10 s or takes 2 GB lies in build/fuzz/findings, and the exit code is 1.
set -euo pipefail
cd "$(dirname "$0")/.."
wanted=${1:-all}
seconds=${2:-60}
targets=(npy statistics plugin rules config package onnx)
if [ "$wanted" != all ]; then
  [[ " ${targets[*]} " == *" $wanted "* ]] || { echo "fuzz: there is no target '$wanted'; there are ${targets[*]}" >&2; exit 2; }
  targets=("$wanted")
fi

scripts/setup.sh --fuzz
mkdir -p build
cmake --preset fuzz >build/configure-fuzz.log 2>&1 || { cat build/configure-fuzz.log >&2; exit 1; }
nice cmake --build --preset fuzz --target "${targets[@]/#/fuzz_}" >build/build-fuzz.log 2>&1 || { grep -E 'error|FAILED' -A3 build/build-fuzz.log >&2; exit 1; }

# Debian's libraries are not instrumented: what they put into a container looks like an overflow. Plugins and caches live for ever.
export ASAN_OPTIONS="detect_leaks=0:detect_container_overflow=0:allocator_may_return_null=1:${ASAN_OPTIONS:-}"
export UBSAN_OPTIONS="print_stacktrace=1:${UBSAN_OPTIONS:-}"
export QUERN_SOURCE_DIR="$PWD" OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive

# What only a build of the command can make: a package, and a plugin. Left out where there is none.
quern=build/release/bin/quern
if [ -x "$quern" ]; then
  "$quern" quantize examples/digits/digits.yaml -o build/fuzz/digits --skip-evaluation >/dev/null 2>&1 && export QUERN_FUZZ_PACKAGE="$PWD/build/fuzz/digits/package"
  export QUERN_FUZZ_PLUGIN="$PWD/build/release/lib/quern/plugins/cpu.so"
fi

status=0
for target in "${targets[@]}"; do
  seeds=build/fuzz/seeds/$target corpus=build/fuzz/corpus/$target findings=build/fuzz/findings/$target
  rm -rf "$seeds"
  mkdir -p "$seeds" "$corpus" "$findings"
  QUERN_FUZZ_SEEDS="$seeds" "build/fuzz/bin/fuzz_$target"
  if [ "$target" = onnx ] && [ -n "${QUERN_PYTHON:-}" ]; then
    # The models of ONNX's node cases: one of every operator and many of its forms.
    cases=$("$QUERN_PYTHON" -c 'import onnx, os; print(os.path.join(os.path.dirname(onnx.__file__), "backend/test/data/node"))' 2>/dev/null || true)
    for model in "$cases"/*/model.onnx; do
      [ -s "$model" ] && [ "$(stat -c %s "$model")" -lt 8192 ] && cp "$model" "$seeds/$(basename "$(dirname "$model")")"
    done
  fi
  dictionary=tests/fuzz/dictionaries/$target.txt
  options=(-max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -max_len=65536 -artifact_prefix="$findings/" -print_final_stats=1)
  [ -e "$dictionary" ] && options+=(-dict="$dictionary")
  if nice -n 19 "build/fuzz/bin/fuzz_$target" "${options[@]}" "$corpus" "$seeds" >"build/fuzz/$target.log" 2>&1; then
    echo "$target: no finding in $seconds s, $(sed -n 's/^stat::number_of_executed_units: *//p' "build/fuzz/$target.log") inputs, $(ls "$corpus" | wc -l) in the corpus"
  else
    echo "$target: a finding, see build/fuzz/$target.log and $findings" >&2
    tail -n 40 "build/fuzz/$target.log" >&2
    status=1
  fi
  rm -rf "${TMPDIR:-/tmp}"/quern-fuzz-* /dev/shm/quern-fuzz-* 2>/dev/null || true
done
exit $status
