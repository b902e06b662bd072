// QDQ: the float graph with QuantizeLinear / DequantizeLinear pairs where integers flow, weights and biases as integers.
#include <fmt/format.h>

#include "core/graph/passes.hpp"
#include "core/integer/integer.hpp"
#include "core/integer/quantized_uses.hpp"

namespace quern {
namespace {

constexpr int qdq_version = 13;

Tensor zero_points(const QuantParams& p) {
  Tensor wide = Tensor::of<int64_t>(p.axis < 0 ? Dims{} : Dims{static_cast<int64_t>(p.zero_point.size())}, p.zero_point);
  Tensor out(p.format.storage(), wide.dims());
  for (size_t i = 0; i < p.zero_point.size(); ++i) {
    const int64_t z = p.zero_point[i];
    switch (out.type()) {
      case DType::u8: out.mutable_values<uint8_t>()[i] = static_cast<uint8_t>(z); break;
      case DType::s8: out.mutable_values<int8_t>()[i] = static_cast<int8_t>(z); break;
      case DType::u16: out.mutable_values<uint16_t>()[i] = static_cast<uint16_t>(z); break;
      case DType::s16: out.mutable_values<int16_t>()[i] = static_cast<int16_t>(z); break;
      default: out.mutable_values<int32_t>()[i] = static_cast<int32_t>(z); break;
    }
  }
  return out;
}

Tensor scales(const QuantParams& p) {
  return Tensor::of<float>(p.axis < 0 ? Dims{} : Dims{static_cast<int64_t>(p.scale.size())}, p.scale);
}

Node qdq_node(Graph& g, const std::string& op, const std::string& name, std::vector<ValueId> inputs, ValueId output, const QuantParams& p) {
  Node node;
  node.name = g.unique_name(name);
  node.op = op;
  node.since_version = qdq_version;
  node.inputs = std::move(inputs);
  node.outputs = {output};
  if (p.axis >= 0) node.attributes["axis"] = static_cast<int64_t>(p.axis);
  return node;
}

// Integer constants with their DequantizeLinear; units that share a constant share its data.
class DequantizedConstants {
 public:
  explicit DequantizedConstants(Graph& graph) : g_(graph) {}
  // The float value to use instead of the constant `name`.
  ValueId get(const std::string& name, const std::shared_ptr<const Tensor>& integers, const QuantParams& p, const Dims& dims) {
    auto [it, fresh] = data_.emplace(integers.get(), std::vector<ValueId>{});
    if (fresh)
      it->second = {g_.add_constant(name + "_quantized", integers->reshaped(dims)), g_.add_constant(name + "_scale", scales(p)),
                    g_.add_constant(name + "_zero_point", zero_points(p))};
    const ValueId out = g_.add_value(g_.unique_name(name + "_dequantized"), DType::f32, dims);
    g_.add_node(qdq_node(g_, "DequantizeLinear", name + "_DequantizeLinear", it->second, out, p));
    return out;
  }

 private:
  Graph& g_;
  std::map<const Tensor*, std::vector<ValueId>> data_;
};

}  // namespace

Graph qdq_graph(const Graph& graph, const Placement& placement, const IntegerModel& model) {
  // Only units that really run as integers: the target may have refused some at lowering.
  Placement live = placement;
  std::map<std::string, std::shared_ptr<const IntegerUnit>> units;
  for (size_t i = 0; i < model.graph.node_slots(); ++i) {
    const Node& node = model.graph.node(static_cast<NodeId>(i));
    if (auto unit = std::dynamic_pointer_cast<const IntegerUnit>(node.payload)) units[unit->name] = unit;
  }
  std::erase_if(live.units, [&](const PlacedUnit& u) { return units.count(graph.node(u.members.front()).name) == 0; });

  Graph g = with_quantized_uses(graph, live, [](Graph& copy, ValueId value, const Quantizer& quantizer) {
    const std::string name = copy.value(value).name;
    const auto shape = copy.value(value).shape;
    const QuantParams& p = quantizer.params;
    const ValueId scale = copy.add_constant(name + "_scale", scales(p)), zero = copy.add_constant(name + "_zero_point", zero_points(p));
    const ValueId q = copy.add_value(copy.unique_name(name + "_quantized"), p.format.storage(), shape);
    const ValueId d = copy.add_value(copy.unique_name(name + "_dequantized"), DType::f32, shape);
    copy.add_node(qdq_node(copy, "QuantizeLinear", name + "_QuantizeLinear", {value, scale, zero}, q, p));
    copy.add_node(qdq_node(copy, "DequantizeLinear", name + "_DequantizeLinear", {q, scale, zero}, d, p));
    return d;
  });

  DequantizedConstants constants(g);
  for (const PlacedUnit& placed : live.units) {
    const auto& unit = units.at(graph.node(placed.members.front()).name);
    for (const PlacedOperand& operand : placed.operands) {
      if (operand.value == no_value || operand.role.empty() || !graph.value(operand.value).is_constant()) continue;
      const UnitOperand* o = unit->operand(operand.role);
      if (!o || !o->constant || !o->params) continue;
      const Value& value = graph.value(operand.value);
      const ValueId replacement = constants.get(value.name, o->constant, *o->params, value.constant->dims());
      for (NodeId id : placed.members)
        for (size_t s = 0; s < graph.node(id).inputs.size(); ++s)
          if (graph.node(id).inputs[s] == operand.value) g.node(id).inputs[s] = replacement;
    }
  }

  // A graph output keeps its name: what now gives it is renamed back.
  std::vector<ValueId> outputs = g.outputs();
  for (size_t i = 0; i < outputs.size(); ++i) {
    const ValueId before = graph.outputs()[i];
    if (outputs[i] == before) continue;
    const std::string name = g.value(before).name;
    g.rename_value(before, g.unique_name(name + "_before_quantization"));
    g.rename_value(outputs[i], name);
  }
  // Weights that only integers replaced are dropped with what else has no use any more.
  remove_dead(g);
  return g;
}

}  // namespace quern
