#include "core/graph/shapes.hpp"

#include <fmt/format.h>

#include <mutex>
#include <shared_mutex>

#include "core/base/error.hpp"
#include "core/graph/shape_rules.hpp"

namespace quern {
namespace {

using shape_rules::RuleScope;

struct Registry {
  std::shared_mutex mutex;
  std::map<std::string, ShapeRule> rules;  // "domain:op"; a map, so that pointers into it stay good

  Registry() {
    shape_rules::RuleTable table;
    shape_rules::add_elementwise_rules(table);
    shape_rules::add_window_rules(table);
    shape_rules::add_linear_rules(table);
    shape_rules::add_reduce_rules(table);
    shape_rules::add_layout_rules(table);
    shape_rules::add_select_rules(table);
    shape_rules::add_constant_rules(table);
    shape_rules::add_resize_rules(table);
    shape_rules::add_recurrent_rules(table);
    for (const auto& [op, rule] : table.all())
      rules.emplace(":" + op, [rule = rule](const Node& node, std::span<const KnownTensor> inputs) {
        return rule(RuleScope(node, inputs));
      });
  }
};

Registry& registry() {
  static Registry r;  // filled by explicit calls at first use: no static initialisers that a linker could drop
  return r;
}

std::string key_of(const std::string& domain, const std::string& op) {
  return (domain == "ai.onnx" ? std::string() : domain) + ":" + op;
}

// The declared shape of an input, narrowed by the one given for a run.
Dims narrowed(const Value& input, const Dims& given) {
  for (int64_t d : given)
    if (d < -1) throw Error(ErrorCode::data, fmt::format("input '{}': shape {} has a negative dimension", input.name, to_string(given)));
  if (!input.shape) return given;
  const Dims& declared = *input.shape;
  if (declared.size() != given.size())
    throw Error(ErrorCode::data, fmt::format("input '{}' has shape {}, the model declares {}", input.name, to_string(given),
                                             to_string(declared)));
  Dims result = declared;
  for (size_t i = 0; i < given.size(); ++i) {
    if (given[i] < 0) continue;
    if (declared[i] >= 0 && declared[i] != given[i])
      throw Error(ErrorCode::data, fmt::format("input '{}' has shape {}, the model declares {}", input.name,
                                               to_string(given), to_string(declared)));
    result[i] = given[i];
  }
  return result;
}

// Applies the rules of `nodes`, in this order, to what is known of values.
void apply_rules(const Graph& graph, std::span<const NodeId> nodes, std::vector<KnownTensor>& known) {
  std::vector<KnownTensor> inputs;
  for (NodeId id : nodes) {
    const Node& node = graph.node(id);
    inputs.clear();
    for (ValueId in : node.inputs) inputs.push_back(in == no_value ? KnownTensor{} : known[static_cast<size_t>(in)]);
    const ShapeRule* rule = find_shape_rule(node.domain, node.op);
    std::vector<KnownTensor> outputs;
    if (rule) outputs = (*rule)(node, inputs);
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      if (node.outputs[i] == no_value) continue;
      KnownTensor& out = known[static_cast<size_t>(node.outputs[i])];
      const Value& declared = graph.value(node.outputs[i]);
      if (i < outputs.size()) {
        if (outputs[i].dtype == DType::undefined) outputs[i].dtype = declared.dtype;
        out = std::move(outputs[i]);
      } else if (!out.dims) {
        out.dims = declared.shape;  // what the file or the room that made the node says
      }
    }
  }
}

std::vector<KnownTensor> run_inference(const Graph& graph, const std::map<std::string, Dims>& input_shapes) {
  std::vector<KnownTensor> known(graph.value_slots());
  for (size_t i = 0; i < known.size(); ++i) {
    const Value& v = graph.value(static_cast<ValueId>(i));
    known[i].dtype = v.dtype;
    if (v.constant) {
      known[i].dims = v.constant->dims();
      known[i].constant = v.constant.get();
    }
  }
  size_t matched = 0;
  for (ValueId id : graph.inputs()) {
    const Value& v = graph.value(id);
    auto it = input_shapes.find(v.name);
    matched += it != input_shapes.end();
    known[static_cast<size_t>(id)].dims = it == input_shapes.end() ? v.shape : narrowed(v, it->second);
  }
  if (matched != input_shapes.size())
    for (const auto& [name, dims] : input_shapes) {
      bool found = false;
      for (ValueId id : graph.inputs()) found = found || graph.value(id).name == name;
      if (!found) throw Error(ErrorCode::data, fmt::format("the model has no input '{}'", name));
    }
  apply_rules(graph, graph.order(), known);
  return known;
}

// Data whose every element is known; null otherwise.
std::shared_ptr<const Tensor> complete_data(std::shared_ptr<const Tensor> data) {
  if (data && data->type() == DType::s64)
    for (int64_t v : data->values<int64_t>())
      if (v == unknown_element) return nullptr;
  return data;
}

}  // namespace

void register_shape_rule(const std::string& domain, const std::string& op, ShapeRule rule) {
  Registry& r = registry();
  std::unique_lock lock(r.mutex);
  r.rules.emplace(key_of(domain, op), std::move(rule));
}

const ShapeRule* find_shape_rule(const std::string& domain, const std::string& op) {
  Registry& r = registry();
  std::shared_lock lock(r.mutex);
  auto it = r.rules.find(key_of(domain, op));
  return it == r.rules.end() ? nullptr : &it->second;
}

void infer_shapes(Graph& graph, const std::map<std::string, Dims>& input_shapes) {
  std::vector<KnownTensor> known = run_inference(graph, input_shapes);
  for (size_t i = 0; i < known.size(); ++i) {
    Value& v = graph.value(static_cast<ValueId>(i));
    if (v.constant) continue;
    if (known[i].dtype != DType::undefined) v.dtype = known[i].dtype;
    if (known[i].dims) v.shape = std::move(known[i].dims);
  }
}

ShapeTable shapes_for(const Graph& graph, const std::map<std::string, Dims>& input_shapes) {
  std::vector<KnownTensor> known = run_inference(graph, input_shapes);
  ShapeTable table;
  const size_t n = known.size();
  table.dtype.resize(n);
  table.dims.resize(n);
  table.data.resize(n);
  for (size_t i = 0; i < n; ++i) {
    table.dtype[i] = known[i].dtype;
    table.dims[i] = std::move(known[i].dims);
    table.data[i] = complete_data(std::move(known[i].shape_data));
  }
  return table;
}

void continue_shapes(const Graph& graph, std::span<const NodeId> nodes, const FoundShapes& found, ShapeTable& table) {
  for (const auto& [value, dims] : found.dims) table.dims[static_cast<size_t>(value)] = dims;
  for (const auto& [value, data] : found.data) table.data[static_cast<size_t>(value)] = data;
  std::vector<KnownTensor> known(graph.value_slots());
  auto look = [&](ValueId value) {
    const auto v = static_cast<size_t>(value);
    const auto& constant = graph.value(value).constant;
    known[v] = {table.dtype[v], table.dims[v], constant ? constant.get() : table.data[v].get(), nullptr};
  };
  for (NodeId id : nodes)
    for (const auto& list : {graph.node(id).inputs, graph.node(id).outputs})
      for (ValueId v : list)
        if (v != no_value) look(v);
  apply_rules(graph, nodes, known);
  for (NodeId id : nodes)
    for (ValueId value : graph.node(id).outputs) {
      if (value == no_value || found.dims.count(value)) continue;
      const auto v = static_cast<size_t>(value);
      if (known[v].dtype != DType::undefined) table.dtype[v] = known[v].dtype;
      table.dims[v] = known[v].dims;
      if (known[v].shape_data) table.data[v] = complete_data(known[v].shape_data);
    }
}

Dims broadcast(std::span<const int64_t> a, std::span<const int64_t> b) {
  Dims out(std::max(a.size(), b.size()));
  for (size_t i = 0; i < out.size(); ++i) {  // from the last axis
    const int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1, y = i < b.size() ? b[b.size() - 1 - i] : 1;
    int64_t& o = out[out.size() - 1 - i];
    if (x == y) o = x;
    else if (x == 1) o = y;
    else if (y == 1) o = x;
    else if (x < 0) o = y;
    else if (y < 0) o = x;
    else throw Error(ErrorCode::model, fmt::format("shapes {} and {} do not fit together", to_string(a), to_string(b)));
  }
  return out;
}

}  // namespace quern
