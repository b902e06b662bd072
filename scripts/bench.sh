#!/usr/bin/env bash
# Builds the micro benchmarks (release, in build/bench) and runs all of them as one table. Arguments go to every program:
#
#   scripts/bench.sh --benchmark_filter='^(own/Softmax|dense_3x3)'
#   scripts/bench.sh --benchmark_min_time=1
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
mkdir -p build
cmake --preset release -B build/bench -DQUERN_BENCH=ON -DQUERN_TESTS=OFF >build/configure-bench.log 2>&1 || { cat build/configure-bench.log >&2; exit 1; }
cmake --build build/bench --parallel 2 --target quern_bench cpu_kernels >build/build-bench.log 2>&1 || { cat build/build-bench.log >&2; exit 1; }

# A spinning OpenMP thread would take the time of the next benchmark.
export OMP_WAIT_POLICY=passive
# The machine is described once. Debian's library always says that it is a debug build; it isn't.
for program in quern_bench cpu_kernels; do
  "build/bench/bin/$program" --benchmark_min_time=0.1 "$@" 2>&1
done | awk '
  /^-+$/ || /Library was built as DEBUG/ || /^Running build/ || /^Failed to match any benchmarks/ { next }
  /^Benchmark +Time +CPU/ {
    if (!header++) {
      line = sprintf("%-38s %13s %13s %14s %14s  %s", "benchmark", "time", "cpu", "elements", "bytes", "more")
      print line; gsub(/./, "-", line); print line
    }
    next
  }
  header && (/^[0-9-]+T[0-9:]+/ || /^Run on / || /^CPU Caches:/ || /^  L[1-4] / || /^Load Average:/) { next }
  $3 ~ /^(ns|us|ms|s)$/ && $5 ~ /^(ns|us|ms|s)$/ {
    elements = bytes = more = ""
    for (i = 7; i <= NF; ++i) {
      v = $i
      if (sub(/^items_per_second=/, "", v)) elements = v
      else if (sub(/^bytes_per_second=/, "", v)) { sub(/\/s$/, "iB/s", v); bytes = v }
      else more = more (more == "" ? "" : " ") v
    }
    printf "%-38s %13s %13s %14s %14s  %s\n", $1, $2 " " $3, $4 " " $5, elements, bytes, more
    fflush()
    next
  }
  { print; fflush() }'
