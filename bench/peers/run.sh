#!/usr/bin/env bash
# Quern beside its peers; see run.py. Makes a virtual environment of its own the first time. Needs a release build.
set -euo pipefail
cd "$(dirname "$0")/../.."
venv=.venv-peers
stamp=$venv/.installed-$(sha256sum bench/peers/requirements.txt | cut -c1-16)
if [ ! -e "$stamp" ]; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r bench/peers/requirements.txt
  touch "$stamp"
fi
exec "$venv/bin/python" bench/peers/run.py "$@"
