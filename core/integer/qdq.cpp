// QDQ: the float graph with QuantizeLinear / DequantizeLinear pairs where integers flow, weights and biases as integers.
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "core/base/error.hpp"
#include "core/graph/passes.hpp"
#include "core/integer/half_nodes.hpp"
#include "core/integer/qdq_runtime.hpp"
#include "core/integer/quantized_uses.hpp"
#include "core/onnx/onnx.hpp"
#include "core/rules/fallback.hpp"

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

// 16-bit codes came with opset 21.
int version_for(const NumberFormat& format) { return format.bits > 8 && format.bits <= 16 ? 21 : qdq_version; }

// Whether a float operator between QuantizeLinear and DequantizeLinear is what the contract computes, but for the rounding of its floats.
bool says(const Contract& contract) {
  if (contract.acc.overflow != Overflow::must_not) return false;
  const auto integer = [](const std::vector<Stage>& stages) {
    return std::any_of(stages.begin(), stages.end(), [](const Stage& s) {
      return s.kind == StageKind::mul || s.kind == StageKind::shl_sat || s.kind == StageKind::shr || s.kind == StageKind::pwl;
    });
  };
  return !integer(contract.post) && std::none_of(contract.operands.begin(), contract.operands.end(), [&](const OperandRule& o) { return integer(o.pre); });
}

Node qdq_node(Graph& g, const std::string& op, const std::string& name, std::vector<ValueId> inputs, ValueId output, const QuantParams& p) {
  Node node;
  node.name = g.unique_name(name);
  node.op = op;
  node.since_version = version_for(p.format);
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
    if (fresh) alive_.push_back(integers);  // or another constant may get the address
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
  std::vector<std::shared_ptr<const Tensor>> alive_;
};

// The placement that is exported: units that really run as integers (the target may have refused some at lowering), for ONNX
// Runtime cut into what it runs as one kernel.
struct Exported {
  Placement placement;
  std::vector<std::shared_ptr<const IntegerUnit>> integers;  // by unit
};

Exported exported(const Graph& graph, const Placement& placement, const IntegerModel& model, QdqProfile profile,
                  const std::map<ValueId, Range>& ranges, std::vector<QdqAddition>& added) {
  std::map<std::string, std::shared_ptr<const IntegerUnit>> units;
  for (size_t i = 0; i < model.graph.node_slots(); ++i) {
    const Node& node = model.graph.node(static_cast<NodeId>(i));
    if (auto unit = std::dynamic_pointer_cast<const IntegerUnit>(node.payload)) units[unit->name] = unit;
  }
  Exported out{placement, {}};
  Placement& live = out.placement;
  live.units.clear();
  const auto add = [&](ValueId value, const std::string& node) {
    const auto range = ranges.find(value);
    if (range == ranges.end()) throw Error(ErrorCode::internal, fmt::format("the range of '{}' was not found out", graph.value(value).name));
    Quantizer q;
    q.id = static_cast<int>(live.quantizers.size());
    q.value = value;
    q.ranges = asymmetric_ranges(std::span(&range->second, 1), make_format(8, false, false));
    q.params = params_from_ranges(q.ranges, make_format(8, false, false), -1);
    added.push_back({graph.value(value).name, node, q.params});
    live.quantizers.push_back(std::move(q));
    return live.quantizers.back().id;
  };
  for (const PlacedUnit& unit : placement.units) {
    const std::string& name = graph.node(unit.members.front()).name;
    const auto found = units.find(name);
    if (found == units.end()) continue;
    std::vector<QdqPiece> pieces{{unit, found->second}};
    if (profile == QdqProfile::ort) pieces = ort_pieces(graph, unit, found->second, [&](ValueId v) { return add(v, name); });
    for (QdqPiece& piece : pieces) {
      live.units.push_back(std::move(piece.unit));
      out.integers.push_back(std::move(piece.integers));
    }
  }
  return out;
}

// Integer constants of a unit in the place of its float ones.
void put_constants(Graph& g, DequantizedConstants& constants, const Graph& graph, const PlacedUnit& placed, const IntegerUnit& unit,
                   QdqProfile profile) {
  for (const PlacedOperand& operand : placed.operands) {
    if (operand.value == no_value || operand.role.empty() || !graph.value(operand.value).is_constant()) continue;
    const UnitOperand* o = unit.operand(operand.role);
    if (!o || !o->constant || !o->params) continue;
    const Value& value = graph.value(operand.value);
    const Dims& dims = value.constant->dims();
    ValueId replacement = no_value;
    if (only_float(profile, graph.node(placed.members.front()))) {
      // Nothing integer would come of them: as floats they need not be dequantized in every run.
      Tensor floats(DType::f32, dims);
      const Dims strides = row_major_strides(dims);
      dequantize({const_cast<void*>(o->constant->data()), o->constant->type(), dims, strides}, *o->params,
                 {floats.mutable_bytes(), DType::f32, dims, strides});
      replacement = g.add_constant(value.name + "_dequantized", std::move(floats));
    } else if (operand.role != "weight" && operand.role != "bias" && needs_unsigned(profile, *o->params)) {
      replacement = constants.get(value.name, std::make_shared<const Tensor>(as_unsigned(*o->constant)), as_unsigned(*o->params), dims);
    } else {
      replacement = constants.get(value.name, o->constant, *o->params, dims);
    }
    for (NodeId id : placed.members)
      for (size_t s = 0; s < graph.node(id).inputs.size(); ++s)
        if (graph.node(id).inputs[s] == operand.value) g.node(id).inputs[s] = replacement;
  }
}

// What the package computes in f16: its roundings, as far as a file can say it; the runtime computes between them as it likes.
void put_f16(Graph& g, const IntegerModel& model) {
  std::vector<NodeId> marked;
  for (NodeId id : g.order()) {
    const NodeId lowered = model.graph.find_node(g.node(id).name);
    if (lowered == no_node || !is_f16(model.graph.node(lowered)) || model.graph.node(lowered).op != g.node(id).op) continue;
    mark_f16(g.node(id));
    marked.push_back(id);
  }
  if (!marked.empty()) put_half_roundings(g);
  for (NodeId id : marked) unmark_f16(g.node(id));
}

}  // namespace

std::string name_of(QdqProfile profile) {
  return profile == QdqProfile::ort ? "ort" : profile == QdqProfile::openvino ? "openvino" : "plain";
}

QdqProfile qdq_profile_from_name(const std::string& name) {
  for (QdqProfile p : {QdqProfile::plain, QdqProfile::ort, QdqProfile::openvino})
    if (name_of(p) == name) return p;
  throw Error(ErrorCode::config, fmt::format("there is no QDQ profile '{}'{}; there are plain, ort and openvino", name,
                                             did_you_mean(name, {"plain", "ort", "openvino"})));
}

std::string qdq_file_name(QdqProfile profile) { return profile == QdqProfile::plain ? "model.onnx" : "model." + name_of(profile) + ".onnx"; }

std::vector<ValueId> qdq_added_values(const Graph& graph, const Placement& placement, QdqProfile profile) {
  std::vector<ValueId> out;
  if (profile != QdqProfile::ort) return out;
  for (const PlacedUnit& unit : placement.units)
    ort_pieces(graph, unit, nullptr, [&](ValueId v) { out.push_back(v); return -1; });
  return out;
}

QdqExport export_qdq(const Graph& graph, const Placement& placement, const IntegerModel& model, QdqProfile profile,
                     const std::map<ValueId, Range>& ranges) {
  QdqExport out;
  const Exported live = exported(graph, placement, model, profile, ranges, out.added);
  out.graph = with_quantized_uses(graph, live.placement, [&](Graph& copy, ValueId value, const Quantizer& quantizer) {
    const std::string name = copy.value(value).name;
    const auto shape = copy.value(value).shape;
    const QuantParams p = needs_unsigned(profile, quantizer.params) ? as_unsigned(quantizer.params) : quantizer.params;
    const ValueId scale = copy.add_constant(name + "_scale", scales(p)), zero = copy.add_constant(name + "_zero_point", zero_points(p));
    const ValueId q = copy.add_value(copy.unique_name(name + "_quantized"), p.format.storage(), shape);
    const ValueId d = copy.add_value(copy.unique_name(name + "_dequantized"), DType::f32, shape);
    copy.add_node(qdq_node(copy, "QuantizeLinear", name + "_QuantizeLinear", {value, scale, zero}, q, p));
    copy.add_node(qdq_node(copy, "DequantizeLinear", name + "_DequantizeLinear", {q, scale, zero}, d, p));
    return d;
  });
  Graph& g = out.graph;
  DequantizedConstants constants(g);
  for (size_t i = 0; i < live.placement.units.size(); ++i) put_constants(g, constants, graph, live.placement.units[i], *live.integers[i], profile);

  // A graph output keeps its name: what now gives it is renamed back.
  std::vector<ValueId> outputs = g.outputs();
  for (size_t i = 0; i < outputs.size(); ++i) {
    const ValueId before = graph.outputs()[i];
    if (outputs[i] == before) continue;
    const std::string name = g.value(before).name;
    g.rename_value(before, g.unique_name(name + "_before_quantization"));
    g.rename_value(outputs[i], name);
  }
  if (profile == QdqProfile::ort) clip_in_codes(g);
  if (model.f16_nodes > 0) put_f16(g, model);
  // Weights that only integers replaced are dropped with what else has no use any more.
  remove_dead(g);
  for (const auto& unit : live.integers) out.preview = out.preview || !says(*unit->contract);
  const auto order = g.order();
  const bool wide = std::any_of(order.begin(), order.end(), [&](NodeId id) { return g.node(id).op == "QuantizeLinear" && g.node(id).since_version == 21; });
  if (wide) {
    if (const std::string stuck = raise_to_opset(g, 21); !stuck.empty())
      out.left_out = fmt::format("16-bit codes need opset 21, which no longer has the definition of '{}'", stuck);
    g.opset = std::max<int64_t>(g.opset, 21);
  }
  if (profile == QdqProfile::plain) return out;
  // As it will be written: what the runtime makes of an operator depends on that.
  const int64_t opset = std::max<int64_t>(13, graph.opset);
  if (needs_expansion(g, opset)) expand_for_opset(g, opset);
  out.floats = float_nodes(g, profile);
  for (NodeId id : g.order()) out.heavy_integer += is_heavy(g.node(id));
  for (const QdqFloatNode& f : out.floats) out.heavy_float += is_heavy(g.node(g.find_node(f.node)));
  out.heavy_integer -= out.heavy_float;
  return out;
}

}  // namespace quern
