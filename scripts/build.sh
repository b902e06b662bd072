#!/usr/bin/env bash
# Configures and builds a preset: scripts/build.sh [preset] [cmake options ...]. Default: release.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-release}
shift || true
mkdir -p build
cmake --preset "$preset" "$@" >"build/configure-$preset.log" 2>&1 || { cat "build/configure-$preset.log" >&2; exit 1; }
cmake --build --preset "$preset"
