#!/usr/bin/env bash
# The house's rules that a compiler does not see. Prints every breach; fails if there is one.
set -u
cd "${1:?usage: check.sh SOURCE_FOLDER}"
bad=0
breach() { echo "house: $*"; bad=1; }

# Rooms, top to bottom: a room includes only what stands above it (or itself).
rooms=(base numeric graph onnx rules placement plugin integer engine statistics dataset pipeline report)
for i in "${!rooms[@]}"; do
  room=${rooms[$i]}
  for ((j = i + 1; j < ${#rooms[@]}; ++j)); do
    hits=$(grep -rnE "#include \"core/${rooms[$j]}/" "core/$room" --include='*.cpp' --include='*.hpp')
    [ -z "$hits" ] || breach "room '$room' looks down into '${rooms[$j]}':"$'\n'"$hits"
  done
done

# Plugins and the SDK see nothing of the host. (The conformance kit is a program on the host.)
hits=$(grep -rnE '#include "(core|cli)/' plugins sdk --include='*.cpp' --include='*.hpp' --include='*.h' --include='*.c' | grep -v '^sdk/conformance/')
[ -z "$hits" ] || breach "a plugin includes a header of the host:"$'\n'"$hits"

# protobuf belongs to core/onnx alone.
hits=$(grep -rnE '#include [<"](onnx|google)/' core cli plugins sdk --include='*.cpp' --include='*.hpp' | grep -v '^core/onnx/.*' | grep -v '"core/onnx/')
[ -z "$hits" ] || breach "protobuf outside of core/onnx:"$'\n'"$hits"

# core names no target and no algorithm.
hits=$(grep -rnE '"(cpu|gpu_opencl|vpu_sim|gna_sim)"' core --include='*.cpp' --include='*.hpp' | grep -v '//')
[ -z "$hits" ] || breach "core names a target:"$'\n'"$hits"

# Rounding lives in core/numeric.
hits=$(grep -rnE '\b(std::)?(nearbyint|lrint|llrint|rint|lround|llround)f?\(' core cli --include='*.cpp' --include='*.hpp' | grep -v '^core/numeric/')
[ -z "$hits" ] || breach "rounding outside of core/numeric:"$'\n'"$hits"

# No path of one machine.
hits=$(git grep -nE '(^|[^A-Za-z0-9_.])/(root|home|work)/[A-Za-z]' -- . ':!tests/house/check.sh' 2>/dev/null)
[ -z "$hits" ] || breach "a path of one machine:"$'\n'"$hits"

[ $bad -eq 0 ] && echo "house: all rules hold"
exit $bad
