#include "core/graph/equal.hpp"

namespace quern {
namespace {

bool same_tensor(const Tensor& a, const Tensor& b) {
  return a.type() == b.type() && a.dims() == b.dims() && (a.data() == b.data() || std::memcmp(a.data(), b.data(), a.bytes()) == 0);
}

bool same_attribute(const Attribute& a, const Attribute& b) {
  if (a.index() != b.index()) return false;
  if (const auto* t = std::get_if<Tensor>(&a)) return same_tensor(*t, std::get<Tensor>(b));
  return std::visit(
      [&](const auto& x) {
        using T = std::decay_t<decltype(x)>;
        if constexpr (std::is_same_v<T, Tensor>) return true;
        else return x == std::get<T>(b);
      },
      a);
}

bool same_value(const Graph& a, ValueId in_a, const Graph& b, ValueId in_b) {
  if (in_a == no_value || in_b == no_value) return in_a == in_b;
  const Value &x = a.value(in_a), &y = b.value(in_b);
  if (x.name != y.name || x.dtype != y.dtype || x.shape != y.shape || x.is_constant() != y.is_constant()) return false;
  return !x.is_constant() || same_tensor(*x.constant, *y.constant);
}

bool same_values(const Graph& a, const std::vector<ValueId>& in_a, const Graph& b, const std::vector<ValueId>& in_b) {
  if (in_a.size() != in_b.size()) return false;
  for (size_t i = 0; i < in_a.size(); ++i)
    if (!same_value(a, in_a[i], b, in_b[i])) return false;
  return true;
}

bool same_node(const Graph& a, const Node& x, const Graph& b, const Node& y) {
  if (x.name != y.name || x.op != y.op || x.domain != y.domain || x.since_version != y.since_version || x.payload != y.payload ||
      x.attributes.size() != y.attributes.size())
    return false;
  for (auto p = x.attributes.begin(), q = y.attributes.begin(); p != x.attributes.end(); ++p, ++q)
    if (p->first != q->first || !same_attribute(p->second, q->second)) return false;
  return same_values(a, x.inputs, b, y.inputs) && same_values(a, x.outputs, b, y.outputs);
}

}  // namespace

bool same_network(const Graph& a, const Graph& b) {
  const auto order_a = a.order(), order_b = b.order();
  if (order_a.size() != order_b.size() || !same_values(a, a.inputs(), b, b.inputs()) || !same_values(a, a.outputs(), b, b.outputs())) return false;
  for (size_t i = 0; i < order_a.size(); ++i)
    if (!same_node(a, a.node(order_a[i]), b, b.node(order_b[i]))) return false;
  return true;
}

}  // namespace quern
