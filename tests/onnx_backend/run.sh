#!/usr/bin/env bash
# ctest's door to run.py: 77 (skipped) without a Python that has onnx.
if [ -z "${QUERN_PYTHON:-}" ]; then
  echo "skipped: QUERN_PYTHON is not set (scripts/test.sh sets it to a Python with onnx==1.16.2)"
  exit 77
fi
exec "$QUERN_PYTHON" "$(dirname "$0")/run.py" "$@"
