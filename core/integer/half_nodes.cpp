#include "core/integer/half_nodes.hpp"

#include "core/numeric/rounding.hpp"
#include "core/rules/fallback.hpp"

namespace quern {
namespace {

Tensor rounded(const Tensor& t) {
  Tensor out(DType::f32, t.dims());
  const auto from = t.values<float>();
  const auto to = out.mutable_values<float>();
  for (size_t i = 0; i < from.size(); ++i) to[i] = from_half(to_half(from[i]));
  return out;
}

class Roundings {
 public:
  explicit Roundings(Graph& graph) : g_(graph) {}

  void run() {
    std::vector<NodeId> marked;
    for (NodeId id : g_.order())
      if (is_f16(g_.node(id))) marked.push_back(id);
    for (NodeId id : marked) outputs(id);
    for (NodeId id : marked) inputs(id);
  }

 private:
  void outputs(NodeId id) {
    for (size_t i = 0; i < g_.node(id).outputs.size(); ++i) {
      const ValueId v = g_.node(id).outputs[i];
      if (v == no_value || g_.value(v).dtype != DType::f32) continue;
      const ValueId raw = g_.add_value(g_.unique_name(g_.value(v).name + "_unrounded"), DType::f32, g_.value(v).shape);
      g_.node(id).outputs[i] = raw;
      g_.value(raw).producer = id;
      g_.value(v).producer = no_node;
      pair(raw, v);
      half_[v] = v;
    }
  }

  void inputs(NodeId id) {
    for (size_t i = 0; i < g_.node(id).inputs.size(); ++i) {
      const ValueId v = g_.node(id).inputs[i];
      if (v == no_value || g_.value(v).dtype != DType::f32 || !computes_with(g_.node(id), i)) continue;
      auto [it, fresh] = half_.emplace(v, no_value);
      if (fresh) {
        const std::string name = g_.value(v).name + "_half";
        if (g_.value(v).is_constant()) {
          it->second = g_.add_constant(name, rounded(*g_.value(v).constant));
        } else {
          it->second = g_.add_value(g_.unique_name(name), DType::f32, g_.value(v).shape);
          pair(v, it->second);
        }
      }
      g_.node(id).inputs[i] = it->second;
    }
  }

  void pair(ValueId from, ValueId to) {
    const std::string about = g_.value(to).name;
    const ValueId half = g_.add_value(g_.unique_name(about + "_f16"), DType::f16, g_.value(to).shape);
    cast(about + "_to_f16", from, half, DType::f16);
    cast(about + "_to_f32", half, to, DType::f32);
  }

  void cast(const std::string& name, ValueId from, ValueId to, DType type) {
    Node node;
    node.name = g_.unique_name(name);
    node.op = "Cast";
    node.since_version = 13;
    node.inputs = {from};
    node.outputs = {to};
    node.attributes["to"] = static_cast<int64_t>(type);
    g_.add_node(std::move(node));
  }

  Graph& g_;
  std::map<ValueId, ValueId> half_;  // a value and where its rounded numbers are
};

}  // namespace

void put_half_roundings(Graph& graph) { Roundings(graph).run(); }

}  // namespace quern
