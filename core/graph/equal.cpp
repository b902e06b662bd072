#include "core/graph/equal.hpp"

#include <type_traits>

#include "core/base/digest.hpp"

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

// Every piece with its size before it, so that no two networks read alike.
struct Digest {
  Sha256 sha;
  template <class T> void number(T v) { sha.add(std::as_bytes(std::span(&v, 1))); }
  void text(std::string_view s) { number<uint64_t>(s.size()); sha.add(s); }
  void tensor(const Tensor& t) {
    number(static_cast<uint32_t>(t.type()));
    list(t.dims());
    sha.add(std::span(static_cast<const std::byte*>(t.data()), t.bytes()));
  }
  template <class T> void list(const std::vector<T>& v) {
    number<uint64_t>(v.size());
    for (const T& e : v) {
      if constexpr (std::is_same_v<T, std::string>) text(e);
      else number(e);
    }
  }
  void attribute(const Attribute& a) {
    number<uint64_t>(a.index());
    std::visit([&](const auto& x) {
      using T = std::decay_t<decltype(x)>;
      if constexpr (std::is_same_v<T, Tensor>) tensor(x);
      else if constexpr (std::is_same_v<T, std::string>) text(x);
      else if constexpr (std::is_same_v<T, std::shared_ptr<const Graph>>) text(x ? network_digest(*x) : "");
      else if constexpr (std::is_arithmetic_v<T>) number(x);
      else list(x);
    }, a);
  }
  void values(const Graph& g, const std::vector<ValueId>& ids) {
    number<uint64_t>(ids.size());
    for (ValueId id : ids) {
      number<uint8_t>(id != no_value);
      if (id == no_value) continue;
      const Value& v = g.value(id);
      text(v.name);
      number<uint8_t>(v.is_constant());
      if (v.is_constant()) tensor(*v.constant);
    }
  }
};

}  // namespace

std::string network_digest(const Graph& graph) {
  Digest d;
  d.values(graph, graph.inputs());
  d.values(graph, graph.outputs());
  for (NodeId id : graph.order()) {
    const Node& n = graph.node(id);
    for (const std::string* s : {&n.name, &n.domain, &n.op}) d.text(*s);
    d.number(n.since_version);
    for (const auto& [key, value] : n.attributes) { d.text(key); d.attribute(value); }
    d.values(graph, n.inputs);
    d.values(graph, n.outputs);
  }
  return d.sha.hex();
}

bool same_network(const Graph& a, const Graph& b) {
  const auto order_a = a.order(), order_b = b.order();
  if (order_a.size() != order_b.size() || !same_values(a, a.inputs(), b, b.inputs()) || !same_values(a, a.outputs(), b, b.outputs())) return false;
  for (size_t i = 0; i < order_a.size(); ++i)
    if (!same_node(a, a.node(order_a[i]), b, b.node(order_b[i]))) return false;
  return true;
}

}  // namespace quern
