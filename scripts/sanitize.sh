#!/usr/bin/env bash
# The test suite under sanitizers: scripts/sanitize.sh [asan|tsan] [ctest arguments ...]. Not part of CI: a build takes as long
# as the usual one (-O1, line numbers only, ccache).
#
# asan: address and undefined behaviour, everything. tsan: threads, the rooms that use them; with one OpenMP thread, since
# libgomp is not instrumented and reports races that are none.
set -euo pipefail
cd "$(dirname "$0")/.."
kind=${1:-asan}
shift || true

scripts/setup.sh --tests
[ -x .venv-tests/bin/python ] && export QUERN_PYTHON="$PWD/.venv-tests/bin/python"
nice scripts/build.sh "$kind" -DQUERN_TESTS=ON -DQUERN_BENCH=OFF
export OMP_NUM_THREADS=1 QUERN_SANITIZED=1
case "$kind" in
  asan)
    # Leaks are looked for in our own code; dlopen'ed plugins are never unloaded by design.
    # A plugin that crashes on purpose has to die of its signal, as it does elsewhere.
    # The kit replaces operator new by malloc, so that it can fail.
    export ASAN_OPTIONS="detect_leaks=0:abort_on_error=1:handle_segv=0:alloc_dealloc_mismatch=0:detect_stack_use_after_return=1"
    export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1"
    # Out-of-tree builds link without the sanitizer's runtime; size limits do not fit its shadow memory.
    exec ctest --preset asan --exclude-regex 'plugin.out_of_tree' "$@"
    ;;
  tsan)
    export TSAN_OPTIONS="halt_on_error=1:second_deadlock_stack=1:handle_segv=0"
    # Its shadow memory does not fit where newer kernels spread addresses over more than 28 bits.
    exec setarch "$(uname -m)" -R ctest --preset tsan --tests-regex '^(base|engine|statistics|dataset|pipeline|plugin)\.' --exclude-regex 'plugin.out_of_tree|Depthwise.ThreadsDoNotChangeTheBytes' "$@"  # that one sets OpenMP's threads itself
    ;;
  *)
    echo "sanitize: asan or tsan, not '$kind'" >&2
    exit 2
    ;;
esac
