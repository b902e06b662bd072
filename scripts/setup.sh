#!/usr/bin/env bash
# Installs the Debian packages that Quern is built with: scripts/setup.sh [--tests] [--fuzz]. Run again, it does nothing.
set -euo pipefail

# One line a group; why each is there stands in docs/decisions/0001-dependencies.md.
packages=(
  build-essential cmake ninja-build ccache
  libboost1.81-dev libboost-json1.81-dev libboost-filesystem1.81-dev
  libyaml-cpp-dev libvalijson-dev libcli11-dev libfmt-dev libspdlog-dev
  libonnx-dev libprotobuf-dev protobuf-compiler libdnnl-dev libeigen3-dev
  zlib1g-dev libssl-dev
  libopencv-imgcodecs-dev libopencv-imgproc-dev libsndfile1-dev
  libgtest-dev libgmock-dev libbenchmark-dev
  opencl-headers ocl-icd-opencl-dev
)
for option in "$@"; do
  case "$option" in
    --tests) packages+=(python3 python3-venv pocl-opencl-icd oclgrind) ;;  # for tests and benchmarks only
    --fuzz) packages+=(clang libclang-rt-14-dev libomp-14-dev) ;;   # scripts/fuzz.sh
    *) echo "setup: --tests or --fuzz, not '$option'" >&2; exit 2 ;;
  esac
done

missing=()
for package in "${packages[@]}"; do
  if [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)" != installed ]; then
    missing+=("$package")
  fi
done
if [ ${#missing[@]} -eq 0 ]; then
  exit 0
fi

if ! command -v apt-get >/dev/null; then
  echo "setup: Quern's set-up knows Debian 12 (apt-get). Install by hand: ${missing[*]}" >&2
  exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "setup: run this as root, or install sudo; missing packages: ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "setup: installing ${#missing[@]} packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
