#include "core/graph/graph.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <queue>
#include <set>

#include "core/base/error.hpp"

namespace quern {
namespace {

template <class T>
const T* attribute(const Node& node, const std::string& key, const char* wanted) {
  auto it = node.attributes.find(key);
  if (it == node.attributes.end()) return nullptr;
  if (const T* value = std::get_if<T>(&it->second)) return value;
  throw Error(ErrorCode::model, fmt::format("{}: attribute '{}' must be {}", node.op, key, wanted)).at_node(node.name);
}

}  // namespace

int64_t Node::integer(const std::string& key, int64_t fallback) const {
  auto* v = attribute<int64_t>(*this, key, "an integer");
  return v ? *v : fallback;
}

float Node::real(const std::string& key, float fallback) const {
  auto* v = attribute<float>(*this, key, "a number (FLOAT)");
  return v ? *v : fallback;
}

std::string Node::text(const std::string& key, const std::string& fallback) const {
  auto* v = attribute<std::string>(*this, key, "a text (STRING)");
  return v ? *v : fallback;
}

std::vector<int64_t> Node::integers(const std::string& key, const std::vector<int64_t>& fallback) const {
  auto* v = attribute<std::vector<int64_t>>(*this, key, "a list of integers (INTS)");
  return v ? *v : fallback;
}

std::vector<float> Node::reals(const std::string& key, const std::vector<float>& fallback) const {
  auto* v = attribute<std::vector<float>>(*this, key, "a list of numbers (FLOATS)");
  return v ? *v : fallback;
}

std::string Graph::unique_name(const std::string& wanted) const {
  auto free = [&](const std::string& name) { return !value_by_name_.count(name) && !node_by_name_.count(name); };
  const std::string base = wanted.empty() ? "unnamed" : wanted;
  if (free(base)) return base;
  // Doubling, then bisection: ten thousand nodes of one wanted name stay cheap, and the result depends on the names alone.
  int64_t used = 0, open = 1;
  while (!free(fmt::format("{}_{}", base, open))) { used = open; open *= 2; }
  while (open - used > 1) {
    const int64_t middle = used + (open - used) / 2;
    (free(fmt::format("{}_{}", base, middle)) ? open : used) = middle;
  }
  return fmt::format("{}_{}", base, open);
}

ValueId Graph::add_value(std::string name, DType dtype, std::optional<Dims> shape) {
  if (name.empty()) name = unique_name("value");
  const auto id = static_cast<ValueId>(values_.size());
  if (!value_by_name_.emplace(name, id).second)
    throw Error(ErrorCode::model, fmt::format("two values are called '{}'", name)).hint("rename one of them in the model");
  Value value;
  value.name = std::move(name);
  value.dtype = dtype;
  value.shape = std::move(shape);
  values_.push_back(std::move(value));
  return id;
}

void Graph::rename_value(ValueId id, const std::string& name) {
  if (value(id).name == name) return;
  if (!value_by_name_.emplace(name, id).second) throw Error(ErrorCode::internal, fmt::format("two values would be called '{}'", name));
  value_by_name_.erase(value(id).name);
  value(id).name = name;
}

ValueId Graph::add_constant(std::string name, Tensor tensor) {
  if (name.empty()) name = "constant";
  if (value_by_name_.count(name)) name = unique_name(name);
  const ValueId id = add_value(std::move(name));
  set_constant(id, std::move(tensor));
  return id;
}

void Graph::set_constant(ValueId id, Tensor tensor) {
  Value& v = value(id);
  if (v.producer != no_node)
    throw Error(ErrorCode::internal, fmt::format("value '{}' is the output of a node and can't be made a constant", v.name));
  v.dtype = tensor.type();
  v.shape = tensor.dims();
  v.dim_names.clear();
  v.constant = std::make_shared<const Tensor>(std::move(tensor));
}

NodeId Graph::add_node(Node node) {
  const auto id = static_cast<NodeId>(nodes_.size());
  if (node.name.empty()) node.name = unique_name(node.op.empty() ? "node" : node.op);
  if (node_by_name_.count(node.name)) node.name = unique_name(node.name);
  for (ValueId in : node.inputs)
    if (in != no_value && (in < 0 || static_cast<size_t>(in) >= values_.size()))
      throw Error(ErrorCode::internal, "an input is a value that does not exist").at_node(node.name);
  for (ValueId out : node.outputs) {
    if (out == no_value) continue;
    if (out < 0 || static_cast<size_t>(out) >= values_.size())
      throw Error(ErrorCode::internal, "an output is a value that does not exist").at_node(node.name);
    Value& v = value(out);
    if (v.producer != no_node && !nodes_[static_cast<size_t>(v.producer)].removed)
      throw Error(ErrorCode::model, fmt::format("value '{}' is made by two nodes; the other one is '{}'", v.name,
                                                nodes_[static_cast<size_t>(v.producer)].name)).at_node(node.name);
    if (v.is_constant())
      throw Error(ErrorCode::model, fmt::format("value '{}' is both a constant and the output of a node", v.name))
          .at_node(node.name);
    v.producer = id;
  }
  node_by_name_.emplace(node.name, id);
  nodes_.push_back(std::move(node));
  return id;
}

void Graph::remove_node(NodeId id) {
  Node& n = node(id);
  if (n.removed) return;
  for (ValueId out : n.outputs)
    if (out != no_value && value(out).producer == id) value(out).producer = no_node;
  node_by_name_.erase(n.name);
  n.removed = true;
  std::vector<std::string>().swap(n.origin);  // grows with every node folded into it; = {} would keep the memory
  n.inputs.clear();
  n.outputs.clear();
  n.attributes.clear();
  n.payload.reset();
}

void Graph::remove_value(ValueId id) {
  Value& v = value(id);
  value_by_name_.erase(v.name);
  v = Value{};
}

void Graph::replace_uses(ValueId from, ValueId to) {
  for (Node& n : nodes_)
    if (!n.removed) std::replace(n.inputs.begin(), n.inputs.end(), from, to);
  std::replace(outputs_.begin(), outputs_.end(), from, to);
}

ValueId Graph::find_value(const std::string& name) const {
  auto it = value_by_name_.find(name);
  return it == value_by_name_.end() ? no_value : it->second;
}

NodeId Graph::find_node(const std::string& name) const {
  auto it = node_by_name_.find(name);
  return it == node_by_name_.end() ? no_node : it->second;
}

const Tensor* Graph::constant_input(const Node& node, size_t slot) const {
  if (slot >= node.inputs.size() || node.inputs[slot] == no_value) return nullptr;
  return value(node.inputs[slot]).constant.get();
}

bool Graph::is_output(ValueId id) const { return std::find(outputs_.begin(), outputs_.end(), id) != outputs_.end(); }

std::vector<NodeId> Graph::order() const {
  const size_t n = nodes_.size();
  std::vector<int32_t> waiting(n, 0);
  std::vector<std::vector<NodeId>> followers(n);
  auto producer_of = [&](ValueId in) {
    const NodeId p = in == no_value ? no_node : value(in).producer;
    return p != no_node && !node(p).removed ? p : no_node;
  };
  size_t live = 0;
  std::priority_queue<NodeId, std::vector<NodeId>, std::greater<>> ready;
  for (size_t i = 0; i < n; ++i) {
    if (nodes_[i].removed) continue;
    ++live;
    for (ValueId in : nodes_[i].inputs) {
      const NodeId p = producer_of(in);
      if (p == no_node) continue;
      followers[static_cast<size_t>(p)].push_back(static_cast<NodeId>(i));
      ++waiting[i];
    }
    if (waiting[i] == 0) ready.push(static_cast<NodeId>(i));
  }
  std::vector<NodeId> result;
  result.reserve(live);
  while (!ready.empty()) {
    const NodeId id = ready.top();
    ready.pop();
    result.push_back(id);
    for (NodeId f : followers[static_cast<size_t>(id)])
      if (--waiting[static_cast<size_t>(f)] == 0) ready.push(f);
  }
  if (result.size() == live) return result;
  // Whatever still waits is on a cycle or behind one: walk backwards until a node comes round again.
  NodeId at = no_node;
  for (size_t i = 0; i < n && at == no_node; ++i)
    if (!nodes_[i].removed && waiting[i] > 0) at = static_cast<NodeId>(i);
  std::set<NodeId> seen;
  while (seen.insert(at).second) {
    for (ValueId in : node(at).inputs) {
      const NodeId p = producer_of(in);
      if (p != no_node && waiting[static_cast<size_t>(p)] > 0) { at = p; break; }
    }
  }
  throw Error(ErrorCode::model, "the graph has a cycle: this node needs its own output").at_node(node(at).name);
}

std::vector<std::vector<Graph::Use>> Graph::uses() const {
  std::vector<std::vector<Use>> result(values_.size());
  for (NodeId id : order()) {
    const Node& n = node(id);
    for (size_t slot = 0; slot < n.inputs.size(); ++slot)
      if (n.inputs[slot] != no_value) result[static_cast<size_t>(n.inputs[slot])].push_back({id, static_cast<int>(slot)});
  }
  return result;
}

void Graph::check() const {
  std::vector<char> is_input(values_.size(), 0);
  for (ValueId id : inputs_) is_input.at(static_cast<size_t>(id)) = 1;
  auto available = [&](ValueId id) {
    const Value& v = value(id);
    return v.is_constant() || is_input[static_cast<size_t>(id)] || (v.producer != no_node && !node(v.producer).removed);
  };
  std::set<std::string> names;
  for (const Value& v : values_)
    if (!v.name.empty() && !names.insert(v.name).second)
      throw Error(ErrorCode::model, fmt::format("two values are called '{}'", v.name));
  names.clear();
  for (size_t i = 0; i < nodes_.size(); ++i) {
    const Node& n = nodes_[i];
    if (n.removed) continue;
    if (n.name.empty() || !names.insert(n.name).second)
      throw Error(ErrorCode::model, fmt::format("two nodes are called '{}'", n.name));
    for (size_t slot = 0; slot < n.inputs.size(); ++slot) {
      if (n.inputs[slot] == no_value) continue;
      if (!available(n.inputs[slot]))
        throw Error(ErrorCode::model,
                    fmt::format("{}: input {} ('{}') is made by no node and is neither a graph input nor a constant", n.op,
                                slot, value(n.inputs[slot]).name)).at_node(n.name);
    }
    for (ValueId out : n.outputs) {
      if (out == no_value) continue;
      if (value(out).producer != static_cast<NodeId>(i))
        throw Error(ErrorCode::model, fmt::format("value '{}' is made by two nodes", value(out).name)).at_node(n.name);
      if (is_input[static_cast<size_t>(out)] || value(out).is_constant())
        throw Error(ErrorCode::model, fmt::format("value '{}' is an input or a constant and also the output of a node",
                                                  value(out).name)).at_node(n.name);
    }
  }
  for (ValueId id : outputs_)
    if (!available(id))
      throw Error(ErrorCode::model, fmt::format("graph output '{}' is made by no node", value(id).name));
  order();
}

std::vector<std::string> non_finite_constants(const Graph& graph) {
  auto any = [](auto values, auto exponent) {
    using T = typename decltype(values)::value_type;
    for (T bits : values)
      if ((bits & exponent) == exponent) return true;
    return false;
  };
  std::vector<std::string> names;
  for (size_t i = 0; i < graph.value_slots(); ++i) {
    const Value& v = graph.value(static_cast<ValueId>(i));
    if (!v.constant) continue;
    bool found = false;
    switch (v.constant->type()) {
      case DType::f32: found = any(v.constant->values<uint32_t>(), uint32_t{0x7f800000}); break;
      case DType::f64: found = any(v.constant->values<uint64_t>(), uint64_t{0x7ff0000000000000}); break;
      case DType::f16: found = any(v.constant->values<uint16_t>(), uint16_t{0x7c00}); break;
      case DType::bf16: found = any(v.constant->values<uint16_t>(), uint16_t{0x7f80}); break;
      default: break;
    }
    if (found) names.push_back(v.name);
  }
  return names;
}

}  // namespace quern
