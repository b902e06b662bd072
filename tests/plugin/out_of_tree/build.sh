#!/usr/bin/env bash
# Installs the SDK to a new prefix, builds the project of this folder against it, and checks that a faulty plugin is refused.
set -euo pipefail
cmake=$1 build=$2 source=$3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 002  # as loose as it gets: the plugin must come out unwritable for others all the same

"$cmake" --install "$build" --component sdk --prefix "$work/prefix" >/dev/null
cp -r "$source" "$work/source"   # nothing of Quern's tree is near
"$cmake" -S "$work/source" -B "$work/build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$work/prefix" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
"$cmake" --build "$work/build" --target vendor_npu >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }

file=$work/build/vendor_npu.so
symbols=$(nm -D --defined-only "$file" | awk '{print $3}')
[ "$symbols" = quern_plugin_entry_v1 ] || { echo "exports: $symbols"; exit 1; }
[ "$(stat -c %a "$file")" = 755 ] || { echo "mode $(stat -c %a "$file")"; exit 1; }
strip -s "$file"
readelf -SW "$file" | grep -q '\.quern ' || { echo "strip removed the manifest"; exit 1; }

# One symbol too many, and one missing: the build says so and leaves no file.
for faulty in exports_more exports_nothing; do
  if "$cmake" --build "$work/build" --target $faulty >"$work/log" 2>&1; then echo "$faulty was built"; exit 1; fi
  grep -q quern_plugin_entry_v1 "$work/log" || { cat "$work/log"; exit 1; }
  [ ! -e "$work/build/$faulty.so" ] || { echo "$faulty.so was left"; exit 1; }
done
# Without a C++ compiler: a target in plain C11, with every warning an error. It is what it says it is.
mkdir "$work/plain"
cp "$source/../plugins/target.c" "$work/plain/"
cat >"$work/plain/manifest.json" <<'END'
{"quern_manifest": 1, "id": "test.npu", "kind": "target", "name": "npu", "version": "1.0.0", "vendor": "Tests", "license": "Apache-2.0",
 "abi": {"major": 1, "minor": 0}, "provides": {"targets": ["npu"]}}
END
cat >"$work/plain/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.19)
project(plain LANGUAGES C)
find_package(QuernSDK 0.1 REQUIRED)
quern_add_plugin(plain_npu SOURCES target.c MANIFEST manifest.json)
target_compile_options(plain_npu PRIVATE -std=c11 -Wall -Wextra -Wpedantic -Werror)
END
compiled() {  # folder, plugin, options of cmake
  "$cmake" -S "$1" -B "$1/build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH="$work/prefix" "${@:3}" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
  "$cmake" --build "$1/build" --target "$2" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
  # Group-writable folders above would have it refused.
  chmod 755 "$1/build"
  "$build/bin/quern-conform" "$1/build/$2.so" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
}
compiled "$work/plain" plain_npu
said="plain C11"

# By clang, with the C++ library inside of it: another one may be in the process.
cp -r "$source/../../../sdk/examples/shift_npu" "$work/shift"
compiled "$work/shift" shift_npu
if clang=$(command -v clang++ || command -v clang++-14); then
  rm -rf "$work/shift/build"
  compiled "$work/shift" shift_npu -DCMAKE_CXX_COMPILER="$clang" "-DCMAKE_MODULE_LINKER_FLAGS=-static-libstdc++ -static-libgcc" "-DCMAKE_SHARED_LINKER_FLAGS=-static-libstdc++ -static-libgcc"
  if readelf -d "$work/shift/build/shift_npu.so" | grep -q 'libstdc++\|libgcc_s'; then echo "the C++ library is not inside of it"; exit 1; fi
  said+=", clang"
else
  said+=" (no clang here: skipped)"
fi
echo "out of tree: built, checked, refused; $said and the example of gcc conform"
