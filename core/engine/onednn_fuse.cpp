// Which nodes run inside a oneDNN primitive: one Add of a second tensor, and activations that are post-operations there.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/engine/onednn_kernel.hpp"

namespace quern::onednn {
namespace {

// The only consumer of a value that is free to fuse. It usually stands close behind the producer, so that the search from there ends
// at once, however long the graph is.
NodeId consumer(const Graph& graph, ValueId value) {
  const auto count = static_cast<NodeId>(graph.node_slots());
  const NodeId producer = std::max<NodeId>(graph.value(value).producer, 0);
  for (NodeId k = 1; k <= count; ++k) {
    const NodeId id = (producer + k) % count;
    if (graph.node(id).removed) continue;
    for (ValueId v : graph.node(id).inputs)
      if (v == value) return id;
  }
  return no_node;
}

bool scalar_f32(const Tensor* t) { return t && t->count() == 1 && t->type() == DType::f32; }

// Bounds of Clip, in any of its forms; none when they are not constant.
std::optional<std::pair<float, float>> bounds(const Graph& graph, const Node& node) {
  float low = -std::numeric_limits<float>::infinity(), high = std::numeric_limits<float>::infinity();
  if (node.since_version < 11) return {{node.real("min", low), node.real("max", high)}};
  for (size_t slot = 1; slot <= 2; ++slot) {
    if (slot >= node.inputs.size() || node.inputs[slot] == no_value) continue;
    const Tensor* t = graph.constant_input(node, slot);
    if (!scalar_f32(t)) return std::nullopt;
    (slot == 1 ? low : high) = t->values<float>()[0];
  }
  return {{low, high}};
}

std::optional<Fused::Eltwise> eltwise(const Graph& graph, const Node& node) {
  using A = dnnl::algorithm;
  if (!node.domain.empty() && node.domain != "ai.onnx") return std::nullopt;
  if (node.op == "Relu") return Fused::Eltwise{A::eltwise_relu, 0, 0};
  if (node.op == "LeakyRelu") return Fused::Eltwise{A::eltwise_relu, node.real("alpha", 0.01f), 0};
  if (node.op == "Sigmoid") return Fused::Eltwise{A::eltwise_logistic, 0, 0};
  if (node.op == "Tanh") return Fused::Eltwise{A::eltwise_tanh, 0, 0};
  if (node.op == "HardSwish") return Fused::Eltwise{A::eltwise_hardswish, 0, 0};
  if (node.op == "Mish") return Fused::Eltwise{A::eltwise_mish, 0, 0};
  if (node.op == "Gelu") return Fused::Eltwise{node.text("approximate", "none") == "tanh" ? A::eltwise_gelu_tanh : A::eltwise_gelu_erf, 0, 0};
  if (node.op == "Swish") return Fused::Eltwise{A::eltwise_swish, node.real("alpha", 1.0f), 0};
  if (node.op == "Elu") return Fused::Eltwise{A::eltwise_elu, node.real("alpha", 1.0f), 0};
  if (node.op == "Clip") {
    const auto b = bounds(graph, node);
    if (!b || std::isnan(b->first) || std::isnan(b->second)) return std::nullopt;
    if (b->first == 0 && std::isinf(b->second) && b->second > 0) return Fused::Eltwise{A::eltwise_relu, 0, 0};
    return Fused::Eltwise{A::eltwise_clip, b->first, b->second};
  }
  return std::nullopt;
}

bool is_add(const Node& node) {
  return (node.domain.empty() || node.domain == "ai.onnx") && node.op == "Add" && node.since_version >= 7 && node.inputs.size() == 2 &&
         node.inputs[0] != node.inputs[1];
}

}  // namespace

std::vector<NodeId> chain(const Graph& graph, NodeId node, const std::function<bool(ValueId)>& free_to_fuse, bool constant_row) {
  std::vector<NodeId> members{node};
  bool has_add = false;
  int eltwises = 0;
  while (members.size() < 5) {
    const ValueId result = graph.node(members.back()).outputs.at(0);
    if (!free_to_fuse(result)) break;
    const NodeId next = consumer(graph, result);
    if (next == no_node) break;
    const Node& n = graph.node(next);
    if (is_add(n)) {
      const ValueId other = n.inputs[n.inputs[0] == result ? 1 : 0];
      if (other == no_value) break;
      const bool constant = graph.value(other).is_constant();
      if (constant ? !(constant_row && members.size() == 1) : has_add) break;
      has_add = has_add || !constant;
    } else {
      if (!n.inputs.empty() && n.inputs[0] != result) break;  // the result may be a bound of Clip
      if (eltwises == 2 || !eltwise(graph, n)) break;
      ++eltwises;
    }
    members.push_back(next);
  }
  return members;
}

std::optional<Fused> read_fused(const Graph& graph, std::span<const NodeId> members) {
  Fused fused;
  for (size_t i = 1; i < members.size(); ++i) {
    const Node& n = graph.node(members[i]);
    const ValueId result = graph.node(members[i - 1]).outputs.at(0);
    if (is_add(n)) {
      const ValueId other = n.inputs[n.inputs[0] == result ? 1 : 0];
      if (graph.value(other).is_constant()) {
        if (i != 1) return std::nullopt;
        fused.row = other;
        continue;
      }
      if (fused.residual != no_value) return std::nullopt;
      fused.residual = other;
      fused.items.push_back({.is_add = true, .eltwise = {}});
    } else {
      const auto e = eltwise(graph, n);
      if (!e) return std::nullopt;
      fused.items.push_back({.is_add = false, .eltwise = *e});
    }
  }
  return fused;
}

dnnl::primitive_attr attributes(const Fused& fused, bool sum_first) {
  dnnl::post_ops ops;
  if (sum_first) ops.append_sum(1.0f);
  for (const auto& item : fused.items) {
    if (item.is_add) ops.append_sum(1.0f);
    else ops.append_eltwise(1.0f, item.eltwise.algorithm, item.eltwise.alpha, item.eltwise.beta);
  }
  dnnl::primitive_attr attr;
  attr.set_post_ops(ops);
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attr;
}

}  // namespace quern::onednn
