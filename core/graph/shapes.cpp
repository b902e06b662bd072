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

struct Inference {
  std::vector<KnownTensor> values;
};

Inference run_inference(const Graph& graph, const std::map<std::string, Dims>& input_shapes) {
  Inference result;
  auto& known = result.values;
  known.resize(graph.value_slots());
  for (size_t i = 0; i < known.size(); ++i) {
    const Value& v = graph.value(static_cast<ValueId>(i));
    known[i].dtype = v.dtype;
    if (v.constant) {
      known[i].dims = v.constant->dims();
      known[i].constant = v.constant.get();
    }
  }
  for (ValueId id : graph.inputs()) {
    const Value& v = graph.value(id);
    auto it = input_shapes.find(v.name);
    known[static_cast<size_t>(id)].dims = it == input_shapes.end() ? v.shape : narrowed(v, it->second);
  }
  for (const auto& [name, dims] : input_shapes) {
    bool found = false;
    for (ValueId id : graph.inputs()) found = found || graph.value(id).name == name;
    if (!found) throw Error(ErrorCode::data, fmt::format("the model has no input '{}'", name));
  }
  std::vector<KnownTensor> inputs;
  for (NodeId id : graph.order()) {
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
      } else {
        out.dims = declared.shape;  // what the file or the room that made the node says
      }
    }
  }
  return result;
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
  const Inference result = run_inference(graph, input_shapes);
  for (size_t i = 0; i < result.values.size(); ++i) {
    Value& v = graph.value(static_cast<ValueId>(i));
    if (v.constant) continue;
    const KnownTensor& k = result.values[i];
    if (k.dtype != DType::undefined) v.dtype = k.dtype;
    if (k.dims) v.shape = k.dims;
  }
}

ShapeTable shapes_for(const Graph& graph, const std::map<std::string, Dims>& input_shapes) {
  Inference result = run_inference(graph, input_shapes);
  ShapeTable table;
  const size_t n = result.values.size();
  table.dtype.resize(n);
  table.dims.resize(n);
  table.data.resize(n);
  for (size_t i = 0; i < n; ++i) {
    KnownTensor& k = result.values[i];
    table.dtype[i] = k.dtype;
    table.dims[i] = std::move(k.dims);
    if (!k.shape_data) continue;
    bool complete = true;
    if (k.shape_data->type() == DType::s64)
      for (int64_t v : k.shape_data->values<int64_t>()) complete = complete && v != unknown_element;
    if (complete) table.data[i] = std::move(k.shape_data);
  }
  return table;
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
