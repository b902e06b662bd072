#!/usr/bin/env bash
# ctest's door to a module of this folder: 77 (skipped) without a Python that has numpy and onnx.
#   run.sh NAME    runs test_NAME.py
if [ -z "${QUERN_PYTHON:-}" ]; then
  echo "skipped: QUERN_PYTHON is not set (scripts/test.sh sets it to a Python with tests/requirements.txt)"
  exit 77
fi
exec "$QUERN_PYTHON" -B "$(dirname "$0")/test_$1.py"
