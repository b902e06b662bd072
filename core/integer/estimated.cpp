#include <fmt/format.h>

#include "core/integer/integer.hpp"
#include "core/integer/quantized_uses.hpp"

namespace quern {

namespace {

ValueId fake_quantized(Graph& g, ValueId value, const QuantParams& params) {
  const std::string name = g.value(value).name;
  auto payload = std::make_shared<QuantizePayload>();
  payload->params = params;
  const auto shape = g.value(value).is_constant() ? g.value(value).constant->dims() : g.value(value).shape;
  const ValueId out = g.add_value(g.unique_name(name + "_fake_quantized"), DType::f32, shape);
  Node node;
  node.name = g.unique_name(name + "_FakeQuantize");
  node.domain = "quern";
  node.op = "FakeQuantize";
  node.inputs = {value};
  node.outputs = {out};
  node.payload = std::move(payload);
  g.add_node(std::move(node));
  return out;
}

}  // namespace

Graph estimated_graph(const Graph& graph, const Placement& placement, bool activations, bool weights, bool fold) {
  Graph copy = graph;
  if (activations)
    copy = with_quantized_uses(graph, placement, [](Graph& g, ValueId value, const Quantizer& q) { return fake_quantized(g, value, q.params); });
  if (weights) {
    for (const PlacedUnit& unit : placement.units)
      for (const PlacedOperand& operand : unit.operands) {
        if (operand.quantizer < 0 || operand.value == no_value || !graph.value(operand.value).is_constant()) continue;
        // A constant shared by several nodes may have several quantizers: each use gets its own copy.
        const QuantParams& params = placement.quantizers[static_cast<size_t>(operand.quantizer)].params;
        const Value& value = graph.value(operand.value);
        const ValueId id = fold ? copy.add_constant(value.name + "_fake_quantized", fake_quantize(*value.constant, params))
                                : fake_quantized(copy, operand.value, params);
        for (NodeId member : unit.members)
          for (size_t s = 0; s < graph.node(member).inputs.size(); ++s)
            if (graph.node(member).inputs[s] == operand.value) copy.node(member).inputs[s] = id;
      }
  }
  return copy;
}

}  // namespace quern
