#!/usr/bin/env bash
# Quern's inference beside ONNX Runtime's and OpenVINO's; see run.py. Uses the environment of bench/peers (made the first time). Needs a release build.
set -euo pipefail
cd "$(dirname "$0")/../.."
. bench/peers/environment.sh
exec "$venv/bin/python" bench/speed/run.py "$@"
