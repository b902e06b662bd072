#!/usr/bin/env bash
# Quern beside its peers; see run.py. Makes a virtual environment of its own the first time. Needs a release build.
set -euo pipefail
cd "$(dirname "$0")/../.."
. bench/peers/environment.sh
exec "$venv/bin/python" bench/peers/run.py "$@"
