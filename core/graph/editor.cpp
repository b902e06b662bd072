#include "core/graph/editor.hpp"

#include <algorithm>

namespace quern {

GraphEditor::GraphEditor(Graph& g) : graph(g), users_(g.value_slots()), outputs_(g.value_slots(), 0) {
  for (size_t i = 0; i < g.node_slots(); ++i) {
    const Node& n = g.node(static_cast<NodeId>(i));
    if (n.removed) continue;
    for (ValueId v : n.inputs)
      if (v != no_value) slot(v).insert(static_cast<NodeId>(i));
  }
  for (ValueId v : g.outputs()) outputs_[static_cast<size_t>(v)] = 1;
}

std::multiset<NodeId>& GraphEditor::slot(ValueId v) {
  if (static_cast<size_t>(v) >= users_.size()) users_.resize(static_cast<size_t>(v) + 1);
  return users_[static_cast<size_t>(v)];
}

NodeId GraphEditor::sole_user(ValueId v) {
  if (v == no_value || is_output(v) || users(v).size() != 1) return no_node;
  return *users(v).begin();
}

NodeId GraphEditor::producer(NodeId node, size_t slot) const {
  const Node& n = graph.node(node);
  if (slot >= n.inputs.size() || n.inputs[slot] == no_value) return no_node;
  return graph.value(n.inputs[slot]).producer;
}

void GraphEditor::set_input(NodeId node, size_t index, ValueId v) {
  auto& inputs = graph.node(node).inputs;
  if (inputs.size() <= index) inputs.resize(index + 1, no_value);
  if (inputs[index] != no_value) {
    auto& old = slot(inputs[index]);
    if (auto it = old.find(node); it != old.end()) old.erase(it);
  }
  inputs[index] = v;
  if (v != no_value) slot(v).insert(node);
}

void GraphEditor::drop_inputs(NodeId node, size_t from) {
  auto& inputs = graph.node(node).inputs;
  for (size_t i = from; i < inputs.size(); ++i) set_input(node, i, no_value);
  if (inputs.size() > from) inputs.resize(from);
}

void GraphEditor::replace_uses(ValueId from, ValueId to) {
  if (from == to) return;
  const std::multiset<NodeId> nodes = users(from);
  for (NodeId id : nodes) {
    auto& inputs = graph.node(id).inputs;
    std::replace(inputs.begin(), inputs.end(), from, to);
    slot(to).insert(id);
  }
  slot(from).clear();
  if (!is_output(from)) return;
  auto outputs = graph.outputs();
  std::replace(outputs.begin(), outputs.end(), from, to);
  graph.set_outputs(outputs);
  if (outputs_.size() <= static_cast<size_t>(to)) outputs_.resize(static_cast<size_t>(to) + 1, 0);
  outputs_[static_cast<size_t>(from)] = 0;
  outputs_[static_cast<size_t>(to)] = 1;
}

NodeId GraphEditor::add_node(Node node) {
  const NodeId id = graph.add_node(std::move(node));
  for (ValueId v : graph.node(id).inputs)
    if (v != no_value) slot(v).insert(id);
  return id;
}

void GraphEditor::remove_node(NodeId node) {
  drop_inputs(node, 0);
  graph.remove_node(node);
}

void GraphEditor::set_output(NodeId node, size_t index, ValueId v) {
  ValueId& out = graph.node(node).outputs.at(index);
  if (out != no_value && graph.value(out).producer == node) graph.value(out).producer = no_node;
  out = v;
  graph.value(v).producer = node;
}

bool GraphEditor::bypass(NodeId node, ValueId output, ValueId source) {
  if (!is_output(output)) {
    remove_node(node);
    replace_uses(output, source);
    return true;
  }
  const NodeId maker = graph.value(source).producer;
  if (maker == no_node || is_output(source)) return false;
  auto& outs = graph.node(maker).outputs;
  const auto index = static_cast<size_t>(std::find(outs.begin(), outs.end(), source) - outs.begin());
  remove_node(node);
  set_output(maker, index, output);
  replace_uses(source, output);
  return true;
}

void GraphEditor::set_constant_input(NodeId node, size_t index, const std::string& name, Tensor tensor) {
  const auto& inputs = graph.node(node).inputs;
  const ValueId now = index < inputs.size() ? inputs[index] : no_value;
  if (now != no_value && graph.value(now).is_constant() && only_used_here(now)) {
    graph.set_constant(now, std::move(tensor));
    return;
  }
  set_input(node, index, graph.add_constant(name, std::move(tensor)));
}

std::vector<int64_t> permutation_of(const Node& node, int64_t rank) {
  auto perm = node.integers("perm");
  if (perm.empty())
    for (int64_t i = rank; i-- > 0;) perm.push_back(i);
  if (static_cast<int64_t>(perm.size()) != rank) return {};
  std::vector<char> seen(perm.size(), 0);
  for (int64_t p : perm)
    if (p < 0 || p >= rank || seen[static_cast<size_t>(p)]++) return {};
  return perm;
}

void add_origin(Node& node, const Node& folded) {
  if (node.origin.empty()) node.origin.push_back(node.name);
  const auto more = folded.origin.empty() ? std::vector<std::string>{folded.name} : folded.origin;
  node.origin.insert(node.origin.end(), more.begin(), more.end());
}

}  // namespace quern
