// Shapes of the "quern" domain. A Unit's come from the rules of its members, applied in order.
#include <mutex>

#include "core/base/error.hpp"
#include "core/engine/provider.hpp"
#include "core/graph/shapes.hpp"
#include "core/rules/unit.hpp"

namespace quern {
namespace {

const QuantizePayload& quantize_payload(const Node& node) {
  const auto* payload = dynamic_cast<const QuantizePayload*>(node.payload.get());
  if (!payload) throw Error(ErrorCode::internal, "a " + node.op + " node without its quantizer").at_node(node.name);
  return *payload;
}

std::vector<KnownTensor> like_input(const Node& node, std::span<const KnownTensor> inputs, DType type) {
  if (inputs.size() != 1) throw Error(ErrorCode::model, node.op + " needs one input").at_node(node.name);
  return {KnownTensor{type, inputs[0].dims, nullptr, nullptr}};
}

std::vector<KnownTensor> unit_shape(const Node& node, std::span<const KnownTensor> inputs) {
  const auto* unit = dynamic_cast<const IntegerUnit*>(node.payload.get());
  if (!unit || unit->members.empty()) throw Error(ErrorCode::internal, "a Unit node without its unit").at_node(node.name);
  // What the members see: operands as they were before quantization, where they have quantizers.
  std::vector<KnownTensor> operands;
  size_t next = 0;
  for (const UnitOperand& o : unit->operands) {
    KnownTensor known{o.params ? DType::f32 : o.dtype, o.dims, nullptr, nullptr};
    if (o.constant) {
      known.dims = o.constant->dims();
      if (!o.params) known.constant = o.constant.get();
    } else {
      if (next >= inputs.size())
        throw Error(ErrorCode::model, "unit '" + unit->name + "' has more operands than its node has inputs").at_node(node.name);
      known.dims = inputs[next++].dims;
    }
    operands.push_back(std::move(known));
  }
  if (next != inputs.size())
    throw Error(ErrorCode::model, "unit '" + unit->name + "' has fewer operands than its node has inputs").at_node(node.name);
  std::vector<KnownTensor> made;
  for (const UnitMember& member : unit->members) {
    const ShapeRule* rule = find_shape_rule(member.domain, member.op);
    if (!rule) throw Error(ErrorCode::model, "no shape rule for " + member.op + " in unit '" + unit->name + "'").at_node(node.name);
    Node as_node = node_of(member);
    as_node.outputs = {0};
    std::vector<KnownTensor> in;
    for (int i : member.inputs) {
      const size_t index = i == absent_input ? 0 : i >= 0 ? static_cast<size_t>(i) : static_cast<size_t>(-1 - i);
      if (i != absent_input && index >= (i >= 0 ? operands.size() : made.size()))
        throw Error(ErrorCode::model, "member '" + member.name + "' of unit '" + unit->name + "' names an operand that is not there")
            .at_node(node.name);
      as_node.inputs.push_back(i == absent_input ? no_value : static_cast<ValueId>(in.size()));
      in.push_back(i == absent_input ? KnownTensor{} : i >= 0 ? operands[index] : made[index]);
      // The bias of an Add that was fused is a row of integers by now, one per channel: it has lost the axes that placed it.
      if (i >= 0 && !made.empty() && unit->operands[index].role == "bias") in.back().dims = Dims{};
    }
    auto out = (*rule)(as_node, in);
    if (out.empty()) throw Error(ErrorCode::model, member.op + " has no output shape").at_node(member.name);
    if (out[0].dtype == DType::undefined) out[0].dtype = DType::f32;
    made.push_back(std::move(out[0]));
  }
  return {KnownTensor{unit->output.dtype, made.back().dims, nullptr, nullptr}};
}

}  // namespace

void register_quern_shape_rules() {
  static std::once_flag once;
  std::call_once(once, [] {
    register_shape_rule("quern", "Quantize", [](const Node& n, std::span<const KnownTensor> in) {
      return like_input(n, in, quantize_payload(n).params.format.storage());
    });
    register_shape_rule("quern", "Dequantize",
                        [](const Node& n, std::span<const KnownTensor> in) { return like_input(n, in, DType::f32); });
    register_shape_rule("quern", "FakeQuantize",
                        [](const Node& n, std::span<const KnownTensor> in) { return like_input(n, in, DType::f32); });
    register_shape_rule("quern", "Unit", unit_shape);
  });
}

}  // namespace quern
