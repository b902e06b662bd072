#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.hpp"
#include "core/placement/draft.hpp"
#include "core/rules/operators.hpp"

namespace quern::placing {
namespace {

bool is_pattern(const std::string& text) { return text.find_first_of("*?") != std::string::npos; }

}  // namespace

TypeSet intersect(const TypeSet& order, const TypeSet& with) {
  TypeSet out;
  for (const int t : order) if (contains(with, t)) out.push_back(t);
  return out;
}

bool contains(const TypeSet& set, int type) { return std::find(set.begin(), set.end(), type) != set.end(); }

Context::Context(const Graph& g, const Rules& r, const PlacementOptions& o) : graph(g), rules(r), options(o), preset(chosen_preset(r, o.narrowing)) {
  order = g.order();
  position.assign(g.node_slots(), -1);
  for (size_t i = 0; i < order.size(); ++i) position[static_cast<size_t>(order[i])] = static_cast<int>(i);
  uses = g.uses();
  is_output.assign(g.value_slots(), 0);
  for (const ValueId v : g.outputs()) is_output[static_cast<size_t>(v)] = 1;
  for (const auto& [name, type] : r.types) { (void)type; type_names.push_back(name); }
  pinned.assign(g.value_slots(), 0);
  forbidden.assign(g.value_slots(), 0);
  ignored.assign(g.node_slots(), 0);
  mark_values(o.pin, "pin", pinned);
  mark_values(o.forbid, "forbid", forbidden);
  for (size_t v = 0; v < pinned.size(); ++v) {
    if (pinned[v] && forbidden[v]) {
      throw Error(ErrorCode::config, fmt::format("the tensor '{}' is pinned and forbidden", g.value(static_cast<ValueId>(v)).name));
    }
  }
  mark_ignored();
  check_narrowing();
}

void Context::mark_values(const std::vector<std::string>& wanted, const char* what, std::vector<char>& marks) {
  for (const auto& name : wanted) {
    if (const ValueId v = graph.find_value(name); v != no_value) { marks[static_cast<size_t>(v)] = 1; continue; }
    bool any = false;
    std::vector<std::string> names;
    for (size_t v = 0; v < graph.value_slots(); ++v) {
      const Value& value = graph.value(static_cast<ValueId>(v));
      if (value.is_constant()) continue;
      names.push_back(value.name);
      if (is_pattern(name) && glob_match(name, value.name)) { marks[v] = 1; any = true; }
    }
    if (!any) throw Error(ErrorCode::config, fmt::format("{}: '{}' matched no tensor{}", what, name, did_you_mean(name, names)));
  }
}

void Context::mark_ignored() {
  for (const auto& name : options.ignored_nodes) {
    bool any = false;
    std::vector<std::string> names;
    for (const NodeId id : order) {
      const Node& node = graph.node(id);
      // A node stands for those of the file that were folded into it.
      bool hit = node.name == name || (is_pattern(name) && glob_match(name, node.name));
      for (const auto& origin : node.origin) hit = hit || origin == name || (is_pattern(name) && glob_match(name, origin));
      names.push_back(node.name);
      if (hit) { ignored[static_cast<size_t>(id)] = 1; any = true; }
    }
    if (!any) throw Error(ErrorCode::config, fmt::format("ignored: '{}' matched no node{}", name, did_you_mean(name, names)));
  }
  for (const auto& op : options.ignored_ops) {
    bool any = false;
    std::vector<std::string> names;
    for (const NodeId id : order) {
      const Node& node = graph.node(id);
      if (std::find(names.begin(), names.end(), node.op) == names.end()) names.push_back(node.op);
      if (node.op == op) { ignored[static_cast<size_t>(id)] = 1; any = true; }
    }
    if (!any) throw Error(ErrorCode::config, fmt::format("ignored: the model has no operator '{}'{}; it has {}", op, did_you_mean(op, names), list_of(names)));
  }
}

void Context::check_narrowing() const {
  const auto check = [&](const Narrowing::Entry& e, const char* what) {
    if (!e.op.empty() && !is_onnx_operator(e.op) && std::none_of(order.begin(), order.end(), [&](NodeId id) { return graph.node(id).op == e.op; })) {
      throw Error(ErrorCode::config, fmt::format("{}: there is no operator '{}'{}", what, e.op, did_you_mean(e.op, onnx_operators())));
    }
    if (e.nodes.empty()) return;
    std::vector<std::string> names;
    for (const NodeId id : order) {
      if (glob_match(e.nodes, graph.node(id).name)) return;
      names.push_back(graph.node(id).name);
    }
    throw Error(ErrorCode::config, fmt::format("{}: '{}' matched no node{}", what, e.nodes, did_you_mean(e.nodes, names)));
  };
  for (const auto& e : options.narrowing.activations) check(e, "activations");
  for (const auto& e : options.narrowing.weights) check(e, "weights");
}

TypeSet Context::set_of(const std::vector<std::string>& names) const {
  TypeSet out;
  for (const auto& n : names) {
    if (rules.type(n).is_float()) continue;
    out.push_back(static_cast<int>(std::lower_bound(type_names.begin(), type_names.end(), n) - type_names.begin()));
  }
  return out;
}

std::vector<std::string> Context::names_of(const TypeSet& set) const {
  std::vector<std::string> out;
  for (const int t : set) out.push_back(type_names[static_cast<size_t>(t)]);
  return out;
}

std::string Context::words_of(const TypeSet& set) const { return fmt::format("{}", fmt::join(names_of(set), " or ")); }

std::string Context::label(NodeId id) const { return fmt::format("{} '{}'", graph.node(id).op, graph.node(id).name); }

TypeSet Draft::output_types() const {
  TypeSet out;
  for (const auto& c : configs) for (const int t : c.output) if (!contains(out, t)) out.push_back(t);
  return out;
}

bool Draft::float_output() const {
  return std::any_of(configs.begin(), configs.end(), [](const ConfigDraft& c) { return c.float_output; });
}

TypeSet Draft::carried_types() const {
  TypeSet out;
  for (const auto& c : configs) {
    TypeSet types = c.output;
    for (size_t i = 0; i < operands.size(); ++i) if (operands[i].wanted) types = intersect(types, c.operands[i]);
    for (const int t : types) if (!contains(out, t)) out.push_back(t);
  }
  return out;
}

}  // namespace quern::placing
