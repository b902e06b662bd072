#!/usr/bin/env bash
# Set-up, build, all tests. Ends with the test runner's own summary.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh --tests

# Python for the tests that compare with other people's tools; pinned, in a folder of its own.
venv=.venv-tests
stamp=$venv/.installed-$(sha256sum tests/requirements.txt | cut -c1-16)
if [ ! -e "$stamp" ]; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r tests/requirements.txt
  touch "$stamp"
fi
export QUERN_PYTHON="$PWD/$venv/bin/python"

scripts/build.sh release -DQUERN_TESTS=ON
export OMP_WAIT_POLICY=passive
ctest --preset release "$@"
