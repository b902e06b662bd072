// Are two graphs the same network: nodes, attributes, names of values and what constants hold. Payloads are compared as pointers.
#pragma once
#include "core/graph/graph.hpp"

namespace quern {

bool same_network(const Graph& a, const Graph& b);

}  // namespace quern
