// Are two graphs the same network: nodes, attributes, names of values and what constants hold. Payloads are compared as pointers; a
// digest is of graphs without them.
#pragma once
#include "core/graph/graph.hpp"

namespace quern {

bool same_network(const Graph& a, const Graph& b);
std::string network_digest(const Graph& graph);  // sha256, from one machine to another

}  // namespace quern
