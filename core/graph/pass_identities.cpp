// Nodes that change nothing, and chains of moves that are one move.
#include <algorithm>
#include <numeric>

#include "core/graph/editor.hpp"
#include "core/graph/passes.hpp"

namespace quern {
namespace {

// Same elements in the same order: equal dimensions, at most one of them unknown (then it follows from the count).
bool same_known_shape(const Value& a, const Value& b) {
  if (!a.shape || !b.shape || *a.shape != *b.shape) return false;
  if (std::count(a.shape->begin(), a.shape->end(), 0)) return false;
  return std::count(a.shape->begin(), a.shape->end(), -1) <= 1;
}

bool fully_known(const Value& v) { return v.shape && std::count(v.shape->begin(), v.shape->end(), -1) == 0; }

bool all_are(const Tensor* t, int64_t wanted) {
  if (!t || (t->type() != DType::s64 && t->type() != DType::s32)) return false;
  for (int64_t v : t->to_ints())
    if (v != wanted) return false;
  return true;
}

// Does this node hand its first input on as it is?
bool is_identity(const Graph& g, const Node& n) {
  if (n.inputs.empty() || n.inputs[0] == no_value || n.outputs.empty() || n.outputs[0] == no_value) return false;
  const Value &x = g.value(n.inputs[0]), &y = g.value(n.outputs[0]);
  const std::string& op = n.op;
  if (op == "Identity") return true;
  if (op == "Dropout") {
    if (n.inputs.size() > 2 && n.inputs[2] != no_value) {
      const Tensor* training = g.constant_input(n, 2);
      return training && training->count() == 1 && training->to_ints()[0] == 0;
    }
    return true;
  }
  if (op == "Cast") return x.dtype != DType::undefined && static_cast<int64_t>(x.dtype) == n.integer("to", 0);
  if (op == "CastLike") return n.inputs.size() == 2 && x.dtype != DType::undefined && x.dtype == g.value(n.inputs[1]).dtype;
  if (op == "Reshape" || op == "Flatten" || op == "Squeeze" || op == "Unsqueeze") return same_known_shape(x, y);
  if (op == "Expand" || op == "Tile") return fully_known(x) && same_known_shape(x, y);
  if (op == "Transpose") {
    const auto perm = permutation_of(n, rank_of(x));
    return !perm.empty() && std::is_sorted(perm.begin(), perm.end());
  }
  if (op == "Concat" || op == "Sum" || op == "Max" || op == "Min" || op == "Mean") return n.inputs.size() == 1;
  if (op == "Clip") return n.since_version >= 11 && n.inputs.size() == 1;
  if (op == "Pad") {
    if (n.inputs.size() > 3) return false;
    const auto mode = n.text("mode", "constant");
    return n.since_version >= 11 && mode != "wrap" && all_are(g.constant_input(n, 1), 0);
  }
  if (op == "Slice") {
    const bool forward = n.inputs.size() < 5 || n.inputs[4] == no_value || all_are(g.constant_input(n, 4), 1);
    return n.since_version >= 10 && forward && fully_known(x) && same_known_shape(x, y);
  }
  return false;
}

// A Reshape sees only the order of elements, so a reshaping node before it does not matter.
bool skip_reshape_before(GraphEditor& edit, NodeId id) {
  Graph& g = edit.graph;
  const Node& n = g.node(id);
  if (!is_ai(n, "Reshape")) return false;
  const NodeId before = edit.producer(id, 0);
  if (before == no_node) return false;
  const Node& b = g.node(before);
  if (!b.domain.empty() || (b.op != "Reshape" && b.op != "Flatten" && b.op != "Squeeze" && b.op != "Unsqueeze")) return false;
  const Tensor* target = g.constant_input(n, 1);
  if (!target || target->type() != DType::s64) return false;
  for (int64_t d : target->values<int64_t>())
    if (d == 0) return false;
  const ValueId source = b.inputs.at(0);
  if (edit.users(b.outputs[0]).size() == 1 && !edit.is_output(b.outputs[0])) add_origin(g.node(id), b);
  edit.set_input(id, 0, source);
  return true;
}

// Transpose of a Transpose: one of the composed order (or none).
bool join_transposes(GraphEditor& edit, NodeId id) {
  Graph& g = edit.graph;
  const Node& n = g.node(id);
  if (!is_ai(n, "Transpose")) return false;
  const NodeId before = edit.producer(id, 0);
  if (before == no_node || !is_ai(g.node(before), "Transpose")) return false;
  const ValueId source = g.node(before).inputs.at(0);
  const auto first = permutation_of(g.node(before), rank_of(g.value(source)));
  const auto second = permutation_of(n, static_cast<int64_t>(first.size()));
  if (first.empty() || second.empty()) return false;
  std::vector<int64_t> both;
  for (int64_t s : second) both.push_back(first[static_cast<size_t>(s)]);
  if (edit.only_used_here(g.node(before).outputs[0])) add_origin(g.node(id), g.node(before));
  g.node(id).attributes["perm"] = both;
  edit.set_input(id, 0, source);
  return true;
}

}  // namespace

int64_t remove_identities(Graph& graph) {
  int64_t changed = 0;
  GraphEditor edit(graph);
  for (NodeId id : graph.order()) {
    if (graph.node(id).removed || !graph.node(id).domain.empty() || graph.node(id).payload) continue;
    changed += skip_reshape_before(edit, id);
    changed += join_transposes(edit, id);
    const Node& n = graph.node(id);
    if (!is_identity(graph, n)) continue;
    bool others = false;  // the mask of a Dropout
    for (size_t i = 1; i < n.outputs.size(); ++i)
      others = others || (n.outputs[i] != no_value && (edit.is_output(n.outputs[i]) || !edit.users(n.outputs[i]).empty()));
    if (others) continue;
    changed += edit.bypass(id, n.outputs[0], n.inputs[0]);
  }
  return changed;
}

}  // namespace quern
