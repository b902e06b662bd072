// Private to the graph room: a graph with its uses kept up to date while a pass rewrites it, so that a pass over ten
// thousand nodes stays linear.
#pragma once
#include <set>

#include "core/graph/graph.hpp"

namespace quern {

class GraphEditor {
 public:
  explicit GraphEditor(Graph& graph);
  Graph& graph;

  // Nodes that use the value, once per input slot, ascending.
  const std::multiset<NodeId>& users(ValueId v) { return slot(v); }
  bool is_output(ValueId v) const { return static_cast<size_t>(v) < outputs_.size() && outputs_[static_cast<size_t>(v)]; }
  // The only user of a value that nobody else sees, or no_node.
  NodeId sole_user(ValueId v);
  // The node that makes an input, or no_node (constant, graph input, absent).
  NodeId producer(NodeId node, size_t slot) const;
  bool only_used_here(ValueId v) { return users(v).size() == 1 && !is_output(v); }

  void set_input(NodeId node, size_t slot, ValueId v);  // appends absent inputs as needed
  void drop_inputs(NodeId node, size_t from);
  void replace_uses(ValueId from, ValueId to);           // of nodes and graph outputs
  NodeId add_node(Node node);
  void remove_node(NodeId node);
  // Makes `node` produce `v` at `slot` instead of what it produced (whose producer must be gone from `v`).
  void set_output(NodeId node, size_t slot, ValueId v);
  // Leaves a node out: what used its output uses `source`. A graph output keeps its name: then the producer of `source`
  // makes it, and where that can't be, nothing happens and the answer is false.
  bool bypass(NodeId node, ValueId output, ValueId source);
  // Replaces a constant input: in place when nobody else uses it, otherwise by a new constant.
  void set_constant_input(NodeId node, size_t slot, const std::string& name, Tensor tensor);

 private:
  std::multiset<NodeId>& slot(ValueId v);
  std::vector<std::multiset<NodeId>> users_;
  std::vector<char> outputs_;
};

// Shape entry of a value, -1 when unknown.
inline int64_t rank_of(const Value& v) { return v.shape ? static_cast<int64_t>(v.shape->size()) : -1; }
inline bool is_ai(const Node& n, const char* op) { return !n.removed && n.domain.empty() && n.op == op; }
// perm of a Transpose node, resolved for `rank`; empty when it does not fit.
std::vector<int64_t> permutation_of(const Node& node, int64_t rank);
void add_origin(Node& node, const Node& folded);

}  // namespace quern
