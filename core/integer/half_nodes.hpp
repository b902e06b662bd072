// The roundings of nodes that run in f16 (core/rules/fallback.hpp), put into a graph as pairs of Cast to f16 and back: whoever runs or reads
// the graph needs to know nothing else.
#pragma once
#include "core/graph/graph.hpp"

namespace quern {

// For all nodes marked with mark_f16: before each operand that is not rounded yet, and behind each f32 output. Values keep their names.
void put_half_roundings(Graph& graph);

}  // namespace quern
