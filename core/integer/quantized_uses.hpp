// Puts something behind the quantized values of a float graph: FakeQuantize nodes for estimates, Q/DQ pairs for export.
#pragma once
#include <functional>

#include "core/placement/placement.hpp"

namespace quern {

// For every quantizer of an activation that is in use, calls make(copy, value, quantizer) once: it adds nodes to `copy` and
// returns the value to use instead. Then re-points the uses: operands of units by their quantizer; a unit's own quantized
// output for all its uses, also in float (it exists only as integers). Constants are left to the caller.
Graph with_quantized_uses(const Graph& graph, const Placement& placement,
                          const std::function<ValueId(Graph& copy, ValueId value, const Quantizer& quantizer)>& make);

}  // namespace quern
