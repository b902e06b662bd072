#include "core/graph/passes.hpp"

#include <algorithm>

#include "core/base/error.hpp"
#include "core/graph/editor.hpp"
#include "core/graph/shapes.hpp"

namespace quern {
namespace {

// Outputs that a node need not make: left out when nobody uses them.
bool has_optional_outputs(const Node& n) {
  static const std::set<std::string> ops{"Dropout", "BatchNormalization", "MaxPool", "LayerNormalization", "LSTM", "GRU", "RNN"};
  return n.domain.empty() && ops.count(n.op) != 0;
}

}  // namespace

int64_t remove_dead(Graph& graph) {
  std::vector<char> live_node(graph.node_slots(), 0), live_value(graph.value_slots(), 0);
  std::vector<ValueId> open = graph.outputs();
  for (ValueId id : graph.inputs()) live_value[static_cast<size_t>(id)] = 1;
  while (!open.empty()) {
    const ValueId v = open.back();
    open.pop_back();
    if (v == no_value) continue;
    live_value[static_cast<size_t>(v)] = 1;
    const NodeId p = graph.value(v).producer;
    if (p == no_node || live_node[static_cast<size_t>(p)]++) continue;
    for (ValueId in : graph.node(p).inputs) open.push_back(in);
  }
  int64_t changed = 0;
  for (size_t i = 0; i < live_node.size(); ++i) {
    Node& n = graph.node(static_cast<NodeId>(i));
    if (n.removed) continue;
    if (!live_node[i]) {
      graph.remove_node(static_cast<NodeId>(i));
      ++changed;
      continue;
    }
    const bool optional = has_optional_outputs(n);
    for (size_t k = 0; k < n.outputs.size(); ++k) {
      if (n.outputs[k] == no_value) continue;
      char& live = live_value[static_cast<size_t>(n.outputs[k])];
      if (!live && optional && k > 0) {
        graph.value(n.outputs[k]).producer = no_node;
        n.outputs[k] = no_value;
        ++changed;
      } else {
        live = 1;
      }
    }
    while (!n.outputs.empty() && n.outputs.back() == no_value) n.outputs.pop_back();
  }
  for (size_t i = 0; i < live_value.size(); ++i) {
    const Value& v = graph.value(static_cast<ValueId>(i));
    if (live_value[i] || v.name.empty()) continue;
    changed += v.is_constant();
    graph.remove_value(static_cast<ValueId>(i));
  }
  return changed;
}

std::vector<PassReport> canonicalize(Graph& graph, const ConstantEvaluator& evaluate) {
  using Pass = std::pair<const char*, std::function<int64_t()>>;
  const std::vector<Pass> passes{
      {"inline_constant_branches", [&] { return inline_constant_branches(graph); }},
      {"expand_einsums", [&] { return expand_einsums(graph); }},
      {"fold_constants", [&] { return fold_constants(graph, evaluate); }},
      {"simplify_reshapes", [&] { return simplify_reshapes(graph); }},
      {"remove_identities", [&] { return remove_identities(graph); }},
      {"recognize_activations", [&] { return recognize_activations(graph); }},
      {"recognize_normalizations", [&] { return recognize_normalizations(graph); }},
      {"split_to_slices", [&] { return split_to_slices(graph); }},
      {"move_transposes", [&] { return move_transposes(graph); }},
      {"lift_rows", [&] { return lift_rows(graph); }},
      {"fold_batch_norms", [&] { return fold_batch_norms(graph); }},
      {"canonicalize_bias", [&] { return canonicalize_bias(graph); }},
      {"fold_scalars", [&] { return fold_scalars(graph); }},
      {"means_to_pools", [&] { return means_to_pools(graph); }},
      {"remove_dead", [&] { return remove_dead(graph); }},
  };
  std::vector<PassReport> reports;
  for (const auto& pass : passes) reports.push_back({pass.first, 0});
  infer_shapes(graph);
  // Every pass only ever removes nodes, moves Transposes down and rows up, or puts Slices for Splits and Gathers and a Transpose for a transA, so this ends; the bound is for a fault of ours.
  for (int round = 0; round < 1000; ++round) {
    int64_t changed = 0;
    for (size_t i = 0; i < passes.size(); ++i) {
      const int64_t n = passes[i].second();
      if (n) infer_shapes(graph);
      reports[i].changed += n;
      changed += n;
    }
    if (!changed) return reports;
  }
  throw Error(ErrorCode::internal, "the rewrites of the graph do not come to an end");
}

}  // namespace quern
