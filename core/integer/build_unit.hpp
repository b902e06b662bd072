// One placed unit of the float graph as an IntegerUnit: members, operands with integers, output.
#pragma once
#include "core/integer/integer.hpp"

namespace quern {

// Weights and biases become integers here. Where the product of input and weight scale is too small for an int32 bias
// below bias_limit, the channel's weight scale is raised, and a note says so. Tables are not derived yet.
std::shared_ptr<IntegerUnit> build_unit(const Graph& graph, const Placement& placement, const PlacedUnit& placed, const Rules& rules,
                                        std::vector<LoweringNote>& notes);

// "conv1_out" -> "conv1_out_quantized": the integer form of a value in the lowered graph.
std::string quantized_name(const std::string& value);

}  // namespace quern
