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
echo "out of tree: built, checked, refused"
