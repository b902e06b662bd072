// How units are cut and activations turned for ONNX Runtime.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/integer/qdq_runtime.hpp"
#include "core/numeric/rounding.hpp"

namespace quern {
namespace {

bool is(const Node& node, const char* op) { return node.domain.empty() && node.op == op; }
bool is_clamp(const Node& node) { return is(node, "Relu") || is(node, "Clip"); }

// Of the unit's operands, those that `members` read.
std::vector<PlacedOperand> operands_of(const Graph& graph, const PlacedUnit& unit, std::span<const NodeId> members) {
  std::vector<PlacedOperand> out;
  for (const PlacedOperand& o : unit.operands) {
    bool read = false;
    for (NodeId id : members) {
      const auto& inputs = graph.node(id).inputs;
      read = read || std::find(inputs.begin(), inputs.end(), o.value) != inputs.end();
    }
    if (read) out.push_back(o);
  }
  return out;
}

// Bounds of a Relu or Clip; none where one of them is not a constant.
std::optional<Range> bounds_of(const Graph& graph, const Node& node) {
  Range r{-std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity()};
  if (node.op == "Relu") return Range{0, r.high};
  for (size_t slot = 1; slot < node.inputs.size(); ++slot) {
    if (node.inputs[slot] == no_value) continue;
    const Tensor* t = graph.constant_input(node, slot);
    if (!t || t->count() != 1) return {};
    (slot == 1 ? r.low : r.high) = t->to_floats()[0];
  }
  return r;
}

int64_t code_of(double bound, double scale, int64_t zero, int64_t qmin, int64_t qmax) {
  if (std::isinf(bound)) return bound < 0 ? qmin : qmax;
  return std::clamp(to_integer(bound / scale, Round::half_even) + zero, qmin, qmax);
}

}  // namespace

bool is_heavy(const Node& node) { return is(node, "Conv") || is(node, "ConvTranspose") || is(node, "Gemm") || is(node, "MatMul"); }

bool only_float(QdqProfile profile, const Node& node) { return profile == QdqProfile::ort && is(node, "ConvTranspose"); }

std::vector<QdqPiece> ort_pieces(const Graph& graph, const PlacedUnit& unit, std::shared_ptr<const IntegerUnit> integers,
                                 const std::function<int(ValueId)>& added) {
  if (!is(graph.node(unit.members.front()), "Conv")) return {{unit, std::move(integers)}};
  size_t end = 1;  // the convolution, and the clamp right behind it
  if (unit.members.size() > 1 && is_clamp(graph.node(unit.members[1]))) end = 2;
  const bool whole = end == unit.members.size();
  if (whole && unit.output_quantizer >= 0) return {{unit, std::move(integers)}};
  const ValueId between = graph.node(unit.members[end - 1]).outputs.at(0);
  PlacedUnit head = unit, tail = unit;
  head.members.resize(end);
  head.operands = operands_of(graph, unit, head.members);
  head.output = between;
  head.output_quantizer = added(between);
  std::vector<QdqPiece> out{{head, integers}};
  if (whole) return out;
  tail.members.erase(tail.members.begin(), tail.members.begin() + static_cast<std::ptrdiff_t>(end));
  tail.operands = operands_of(graph, unit, tail.members);
  tail.operands.push_back({"between", between, head.output_quantizer});
  out.push_back({tail, std::move(integers)});
  return out;
}

bool needs_unsigned(QdqProfile profile, const QuantParams& p) {
  return profile == QdqProfile::ort && p.format.is_signed && p.format.bits == 8 && p.axis < 0;
}

QuantParams as_unsigned(QuantParams p) {
  p.format.is_signed = false;
  p.format.qmin += 128;
  p.format.qmax += 128;
  for (int64_t& z : p.zero_point) z += 128;
  return p;
}

Tensor as_unsigned(const Tensor& codes) {
  Tensor out(DType::u8, codes.dims());
  const auto from = codes.values<int8_t>();
  const auto to = out.mutable_values<uint8_t>();
  for (size_t i = 0; i < to.size(); ++i) to[i] = static_cast<uint8_t>(from[i] + 128);
  return out;
}

void clip_in_codes(Graph& graph) {
  const auto uses = graph.uses();
  for (NodeId id : graph.order()) {
    if (!is(graph.node(id), "QuantizeLinear")) continue;
    const ValueId real = graph.node(id).inputs.at(0);
    const NodeId before = graph.value(real).producer;
    if (before == no_node || !is_clamp(graph.node(before)) || uses[static_cast<size_t>(real)].size() != 1 || graph.is_output(real)) continue;
    const Tensor *scale = graph.constant_input(graph.node(id), 1), *zero = graph.constant_input(graph.node(id), 2);
    const auto bounds = bounds_of(graph, graph.node(before));
    if (!bounds || !scale || !zero || scale->count() != 1 || (zero->type() != DType::u8 && zero->type() != DType::s8)) continue;
    const bool is_signed = zero->type() == DType::s8;
    const int64_t qmin = is_signed ? -128 : 0, qmax = is_signed ? 127 : 255, z = zero->to_ints()[0];
    const double s = scale->values<float>()[0];
    const int64_t low = code_of(bounds->low, s, z, qmin, qmax), high = code_of(bounds->high, s, z, qmin, qmax);
    const std::string name = graph.node(before).name;
    const ValueId source = graph.node(before).inputs.at(0);
    graph.node(id).inputs[0] = source;
    graph.remove_node(before);
    if (low == qmin && high == qmax) continue;
    const auto code = [&](int64_t v) { return is_signed ? Tensor::scalar(static_cast<int8_t>(v)) : Tensor::scalar(static_cast<uint8_t>(v)); };
    const ValueId codes = graph.node(id).outputs.at(0);
    Node clip;
    clip.name = graph.unique_name(name + "_codes");
    clip.op = "Clip";
    clip.since_version = 13;
    clip.inputs = {codes, graph.add_constant(name + "_low", code(low)), graph.add_constant(name + "_high", code(high))};
    const ValueId clipped = graph.add_value(graph.unique_name(graph.value(codes).name + "_clipped"), graph.value(codes).dtype, graph.value(codes).shape);
    clip.outputs = {clipped};
    for (const auto& use : uses[static_cast<size_t>(codes)]) graph.node(use.node).inputs[static_cast<size_t>(use.slot)] = clipped;
    graph.add_node(std::move(clip));
  }
}

}  // namespace quern
