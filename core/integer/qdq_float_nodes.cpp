// What the runtimes can't fuse: a model of their rules, checked against the graphs they run by tests/e2e/test_runtimes.py.
#include <fmt/format.h>

#include <cstring>
#include <set>

#include "core/integer/qdq_runtime.hpp"

namespace quern {
namespace {

using Uses = std::vector<std::vector<Graph::Use>>;

class Look {
 public:
  Look(const Graph& graph, QdqProfile profile) : graph_(graph), profile_(profile), uses_(graph.uses()) {}

  // "" when the node runs in integers; else why not.
  std::string reason(NodeId id) {
    const Node& node = graph_.node(id);
    std::string why = profile_ == QdqProfile::ort ? ort(node) : openvino(node);
    if (!why.empty()) floats_.insert(id);
    return why;
  }

 private:
  static bool in(const Node& node, const std::set<std::string>& ops) { return node.domain.empty() && ops.count(node.op) != 0; }

  const Node* maker(ValueId v, const char* op) const {
    if (v == no_value || graph_.value(v).producer == no_node) return nullptr;
    const Node& n = graph_.node(graph_.value(v).producer);
    return n.domain.empty() && n.op == op ? &n : nullptr;
  }
  const Node* dequantize(const Node& node, size_t slot) const {
    return slot < node.inputs.size() ? maker(node.inputs[slot], "DequantizeLinear") : nullptr;
  }
  bool absent(const Node& node, size_t slot) const { return slot >= node.inputs.size() || node.inputs[slot] == no_value; }
  // The only reader of a value, when it is a QuantizeLinear and nobody else sees the value.
  const Node* quantize(ValueId v) const {
    const auto& uses = uses_[static_cast<size_t>(v)];
    if (uses.size() != 1 || graph_.is_output(v)) return nullptr;
    const Node& n = graph_.node(uses[0].node);
    return n.domain.empty() && n.op == "QuantizeLinear" ? &n : nullptr;
  }
  DType codes(const Node& quantizer) const {
    const Tensor* zero = graph_.constant_input(quantizer, 2);
    return zero ? zero->type() : DType::u8;
  }
  bool same_numbers(const Node& a, const Node& b) const {
    for (size_t slot : {size_t{1}, size_t{2}}) {
      const Tensor *x = graph_.constant_input(a, slot), *y = graph_.constant_input(b, slot);
      if (!x || !y || x->type() != y->type() || x->bytes() != y->bytes() || std::memcmp(x->data(), y->data(), x->bytes()) != 0) return false;
    }
    return true;
  }

  std::string operands(const Node& node, size_t count) const {
    for (size_t i = 0; i < count; ++i)
      if (!dequantize(node, i)) return fmt::format("its input {} is not quantized", i);
    return "";
  }

  std::string ort(const Node& node) const {
    if (only_float(profile_, node)) return "the runtime has no integer kernel for it";
    const std::string no_q = "its result is not quantized";
    if (is_heavy(node)) {
      if (auto why = operands(node, 2); !why.empty()) return why;
      if (codes(*dequantize(node, 0)) != DType::u8) return "its input is not unsigned";
      if (node.op != "MatMul" && !absent(node, 2) && !dequantize(node, 2)) return "its bias is not quantized";
      const Node* q = quantize(node.outputs.at(0));
      if (node.op == "Conv" && (!q || codes(*q) != codes(*dequantize(node, 0)))) return q ? "input and result differ in type" : no_q;
      return "";
    }
    if (in(node, {"Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "Sigmoid", "LeakyRelu", "Softmax"})) {
      const bool all = node.op == "Concat";
      if (auto why = operands(node, all ? node.inputs.size() : node.op == "Add" || node.op == "Mul" ? 2 : 1); !why.empty()) return why;
      return quantize(node.outputs.at(0)) ? "" : no_q;
    }
    return moved(node, {"MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Gather", "Split", "Expand", "Tile", "DepthToSpace"});
  }

  // Operators that move codes: the quantizers on both sides have to be the same.
  std::string moved(const Node& node, const std::set<std::string>& ops) const {
    const bool nearest = in(node, {"Resize"}) && node.text("mode", "nearest") == "nearest";
    if (!nearest && !in(node, ops)) return fmt::format("the runtime has no integer kernel for {}", node.op);
    const Node* dq = dequantize(node, 0);
    if (!dq) return "its input 0 is not quantized";
    for (ValueId v : node.outputs) {
      if (v == no_value) continue;
      const Node* q = quantize(v);
      if (!q) return "its result is not quantized";
      if (!same_numbers(*dq, *q)) return "the quantizers before and behind it differ";
    }
    return "";
  }

  // Element-wise operators are fused behind the integer node that feeds them, or run on dequantized codes.
  std::string openvino(const Node& node) const {
    if (is_heavy(node)) return operands(node, 2);
    if (in(node, {"Softmax", "LogSoftmax", "LayerNormalization", "SpaceToDepth", "Tile", "TopK", "ArgMax", "ArgMin", "NonMaxSuppression"}) ||
        (in(node, {"Resize"}) && node.text("mode", "nearest") != "nearest"))
      return fmt::format("the runtime has no integer kernel for {}", node.op);
    const ValueId v = node.inputs.empty() ? no_value : node.inputs[0];
    if (v == no_value || maker(v, "DequantizeLinear") || graph_.value(v).is_constant()) return "";
    const NodeId before = graph_.value(v).producer;
    if (before != no_node && !floats_.count(before) && uses_[static_cast<size_t>(v)].size() == 1) return "";
    return "its input 0 is not quantized";
  }

  const Graph& graph_;
  QdqProfile profile_;
  Uses uses_;
  std::set<NodeId> floats_;  // of those looked at so far
};

}  // namespace

std::vector<QdqFloatNode> float_nodes(const Graph& graph, QdqProfile profile) {
  std::vector<QdqFloatNode> out;
  Look look(graph, profile);
  for (NodeId id : graph.order()) {
    const Node& node = graph.node(id);
    if (node.domain.empty() && (node.op == "QuantizeLinear" || node.op == "DequantizeLinear")) continue;
    const DType in = node.inputs.empty() || node.inputs[0] == no_value ? DType::undefined : graph.value(node.inputs[0]).dtype;
    if (in == DType::u8 || in == DType::s8) continue;  // a Clip of codes
    if (std::string why = look.reason(id); !why.empty()) out.push_back({node.name, node.op, std::move(why)});
  }
  return out;
}

}  // namespace quern
