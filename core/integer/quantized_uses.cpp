#include "core/integer/quantized_uses.hpp"

#include <algorithm>

namespace quern {

Graph with_quantized_uses(const Graph& graph, const Placement& placement,
                          const std::function<ValueId(Graph&, ValueId, const Quantizer&)>& make) {
  Graph copy = graph;
  std::map<std::pair<ValueId, int>, ValueId> made;
  std::map<ValueId, int> produced;  // values that a unit writes as integers
  // A value that a unit writes as integers exists only so: a second quantizer reads what the first one leaves of it.
  const auto quantized = [&](ValueId value, int quantizer) {
    // Tied quantizers of one value are one quantizer: equal parameters give the same replacement.
    const Quantizer& q = placement.quantizers[static_cast<size_t>(quantizer)];
    for (auto it = made.lower_bound({value, 0}); it != made.end() && it->first.first == value; ++it)
      if (placement.quantizers[static_cast<size_t>(it->first.second)].params == q.params) return it->second;
    const auto first = produced.find(value);
    const auto written = first == produced.end() || first->second == quantizer ? made.end() : made.find({value, first->second});
    const ValueId id = make(copy, written == made.end() ? value : written->second, q);
    made[{value, quantizer}] = id;
    return id;
  };
  for (const PlacedUnit& unit : placement.units)
    if (unit.output_quantizer >= 0) produced[unit.output] = unit.output_quantizer;

  const auto uses = graph.uses();
  for (const auto& [value, quantizer] : produced) {
    const ValueId replacement = quantized(value, quantizer);
    for (const auto& use : uses[static_cast<size_t>(value)]) copy.node(use.node).inputs[static_cast<size_t>(use.slot)] = replacement;
    auto outputs = copy.outputs();
    std::replace(outputs.begin(), outputs.end(), value, replacement);
    copy.set_outputs(outputs);
  }
  for (const PlacedUnit& unit : placement.units)
    for (const PlacedOperand& operand : unit.operands) {
      if (operand.quantizer < 0 || operand.value == no_value || graph.value(operand.value).is_constant()) continue;
      const ValueId replacement = quantized(operand.value, operand.quantizer);
      for (NodeId id : unit.members) {
        const auto& original = graph.node(id).inputs;
        for (size_t s = 0; s < original.size(); ++s)
          if (original[s] == operand.value) copy.node(id).inputs[s] = replacement;
      }
    }
  return copy;
}

}  // namespace quern
