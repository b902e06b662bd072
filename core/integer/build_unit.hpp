// One placed unit of the float graph as an IntegerUnit: members, operands with integers, output.
#pragma once
#include <map>

#include "core/integer/integer.hpp"

namespace quern {

// Constants as integers, made once for all units that use one with the same parameters (the steps of an unrolled network).
class QuantizedConstants {
 public:
  std::shared_ptr<const Tensor> get(const std::shared_ptr<const Tensor>& constant, const QuantParams& params);

 private:
  struct Entry { std::shared_ptr<const Tensor> from; QuantParams params; std::shared_ptr<const Tensor> integers; };
  std::multimap<const Tensor*, Entry> made_;
};

// Weights and biases become integers here. Where the product of input and weight scale is too small for an int32 bias
// below bias_limit, the channel's weight scale is raised, and a note says so. Tables are not derived yet.
std::shared_ptr<IntegerUnit> build_unit(const Graph& graph, const Placement& placement, const PlacedUnit& placed, const Rules& rules,
                                        QuantizedConstants& constants, std::vector<LoweringNote>& notes);

// "conv1_out" -> "conv1_out_quantized": the integer form of a value in the lowered graph.
std::string quantized_name(const std::string& value);

}  // namespace quern
