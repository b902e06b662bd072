#include "core/pipeline/recurrent.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/graph/passes.hpp"
#include "core/graph/shapes.hpp"

namespace quern {
namespace {

bool is_recurrent(const Node& n) { return n.domain.empty() && (n.op == "LSTM" || n.op == "GRU" || n.op == "RNN"); }

// The rules are asked with what unrolling would make: a step's state times a constant.
bool has_matmul(const Rules& rules) {
  Graph g;
  const ValueId x = g.add_value("x", DType::f32, Dims{1, 1, 64}), w = g.add_constant("w", Tensor(DType::f32, {64, 64}));
  g.set_inputs({x});
  const ValueId y = g.add_value("y");
  const NodeId node = g.add_node({.name = "node", .op = "MatMul", .since_version = 13, .inputs = {x, w}, .outputs = {y}});
  g.set_outputs({y});
  infer_shapes(g);
  return match_op(rules, g, g.node(node), nullptr) != nullptr;
}

// Whether the target quantizes gates and states too: `placement`, `recurrent_cells` of its rules.
bool quantizes_cells(const Rules& rules) {
  const auto* placement = rules.effective.is_object() ? rules.effective.as_object().if_contains("placement") : nullptr;
  const auto* cells = placement ? placement->as_object().if_contains("recurrent_cells") : nullptr;
  return cells && cells->as_bool();
}

bool ignored(const PlacementOptions& wishes, const Node& node) {
  const auto& names = wishes.ignored_nodes;
  const auto& ops = wishes.ignored_ops;
  return std::any_of(names.begin(), names.end(), [&](const std::string& n) { return glob_match(n, node.name); }) ||
         std::find(ops.begin(), ops.end(), node.op) != ops.end();
}

}  // namespace

Unrolling unroll_for_target(Graph& graph, const Rules& rules, const PlacementOptions& wishes) {
  const auto order = graph.order();
  Unrolling result;
  if (std::any_of(order.begin(), order.end(), [&](NodeId id) { return is_recurrent(graph.node(id)); }) && has_matmul(rules))
    result = unroll_recurrent(graph, [&](const Node& n) { return !match_op(rules, graph, n, nullptr) && !ignored(wishes, n); });
  find_cells(graph, result);
  // A kernel has one output: gates cut out of one tensor one by one.
  if (result.unrolled > 0 && quantizes_cells(rules)) {
    split_to_slices(graph);
    infer_shapes(graph);
  }
  return result;
}

Placement place_unrolled(const Graph& graph, const Rules& rules, PlacementOptions options, const Unrolling& unrolling) {
  const bool quantized = quantizes_cells(rules);
  std::set<std::string> cells = quantized ? std::set<std::string>{} : unrolling.cells;
  const auto place_with = [&] {
    PlacementOptions all = options;
    for (NodeId id : graph.order())
      if (cells.count(graph.node(id).name)) all.ignored_nodes.push_back(graph.node(id).name);
    return place(graph, rules, all);
  };
  Placement placement = place_with();
  // A bias that no kernel takes in would be added to the product in 8 bits: it stays float as well.
  const size_t before = cells.size();
  for (const PlacedUnit& u : placement.units)
    if (const std::string& first = graph.node(u.members.front()).name; !quantized && unrolling.biases.count(first)) cells.insert(first);
  if (cells.size() > before) placement = place_with();
  for (FloatNode& f : placement.floats) {
    const Node& node = graph.node(f.node);
    const std::string from = node.origin.empty() ? node.name : node.origin[0];
    if (cells.count(node.name))
      f.reason = from == node.name ? "part of a recurrent cell: gates and states stay float"
                                   : fmt::format("part of the recurrent cell '{}': gates and states stay float", from);
    else if (const auto it = unrolling.kept.find(node.name); it != unrolling.kept.end())
      f.reason = fmt::format("{} is not unrolled: {}", node.op, it->second);
  }
  return placement;
}

}  // namespace quern
