// Recurrent operators on a target that has none: unrolled, so that their matrix products run as integers (graph/unroll.hpp).
// What lies between the products stays float by default: gates and states lose more by 8 bits at every step than they
// would win.
#pragma once
#include "core/graph/unroll.hpp"
#include "core/placement/placement.hpp"

namespace quern {

// Unrolls LSTM, GRU and RNN where the rules have MatMul by a constant, but not the operator itself. Nodes that `wishes` ignore
// stay as they are. Cells that the file holds written out are found too.
Unrolling unroll_for_target(Graph& graph, const Rules& rules, const PlacementOptions& wishes);

// place() with the cells left in float, and the reasons of all that concerns recurrent nodes.
Placement place_unrolled(const Graph& graph, const Rules& rules, PlacementOptions options, const Unrolling& unrolling);

}  // namespace quern
