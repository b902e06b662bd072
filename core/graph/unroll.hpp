// LSTM, GRU and RNN of a known number of steps as MatMul, Add, Sigmoid, Tanh, Mul, ...: so that their matrix products can run
// as integers on a target that has MatMul but no recurrent operator.
//
//   Unrolling u = unroll_recurrent(graph, [](const Node&) { return true; });
//   u.cells: the nodes between the products, by name; u.kept: what stayed as it is, and why
//
// The input projection of all steps is one MatMul; every step has one product with the recurrent weights (a GRU that resets
// before its product: two), which all steps share as one constant. Without a first state the first step has none.
#pragma once
#include <functional>
#include <map>
#include <set>
#include <string>

#include "core/graph/graph.hpp"

namespace quern {

inline constexpr int64_t unroll_limit = 64;  // steps times directions

struct Unrolling {
  int64_t unrolled = 0;
  std::set<std::string> cells;             // names of element-wise and moving nodes, not of products and their biases
  std::set<std::string> biases;            // names of the Adds of constants right after products
  std::map<std::string, std::string> kept;  // name of a recurrent node -> why it was not unrolled
};

// Shapes have to be inferred; they are again afterwards. `wanted` says which of the recurrent nodes to look at.
Unrolling unroll_recurrent(Graph& graph, const std::function<bool(const Node&)>& wanted);

// Cells that the file itself holds written out, as frameworks export single steps: into `cells` and `biases`, as if they had
// been unrolled here. The graph stays as it is.
void find_cells(Graph& graph, Unrolling& result);

}  // namespace quern
