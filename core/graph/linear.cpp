#include "core/graph/linear.hpp"

#include <algorithm>

namespace quern {

Row doubles(const Tensor& t) {
  Row r(static_cast<size_t>(t.count()));
  if (t.type() == DType::f64) std::copy_n(t.values<double>().begin(), r.size(), r.begin());
  else std::copy_n(t.values<float>().begin(), r.size(), r.begin());
  return r;
}

Tensor tensor_of(DType type, Dims dims, const Row& values) {
  Tensor t(type, std::move(dims));
  if (type == DType::f64) std::copy(values.begin(), values.end(), t.mutable_values<double>().begin());
  else std::transform(values.begin(), values.end(), t.mutable_values<float>().begin(), [](double v) { return static_cast<float>(v); });
  return t;
}

std::optional<Linear> linear(GraphEditor& edit, NodeId id) {
  Graph& g = edit.graph;
  if (id == no_node) return {};
  const Node& n = g.node(id);
  if (n.removed || !n.domain.empty() || n.payload || n.outputs.size() != 1) return {};
  const bool conv = n.op == "Conv", deconv = n.op == "ConvTranspose", gemm = n.op == "Gemm", matmul = n.op == "MatMul";
  if (!conv && !deconv && !gemm && !matmul) return {};
  Linear l;
  l.id = id;
  l.weight = g.constant_input(n, 1);
  if (!l.weight || !is_real(l.weight->type()) || l.weight->rank() < 2) return {};
  if (!matmul && n.inputs.size() > 2 && n.inputs[2] != no_value) {
    const Tensor* bias = g.constant_input(n, 2);
    if (!bias || bias->type() != l.weight->type()) return {};
  }
  const Dims& w = l.weight->dims();
  if (conv) l.channels = w[0];
  else if (deconv) l.channels = w[1] * n.integer("group", 1);
  else if (gemm) l.channels = n.integer("transB", 0) ? w[0] : w[1];
  else if (w.size() == 2) l.channels = w[1];
  else return {};
  l.rank = conv || deconv ? static_cast<int64_t>(w.size()) : gemm ? 2 : rank_of(g.value(n.inputs[0]));
  if (l.rank < 2) return {};
  l.channel_axis = conv || deconv ? 1 : l.rank - 1;
  return l;
}

std::optional<Row> per_channel(const Tensor& t, const Linear& l) {
  if (t.rank() > l.rank) return {};
  if (t.count() == 1) return Row(static_cast<size_t>(l.channels), doubles(t)[0]);
  if (t.count() != l.channels) return {};
  const int64_t axis = l.channel_axis - (l.rank - t.rank());
  if (axis < 0 || t.dims()[static_cast<size_t>(axis)] != l.channels) return {};
  return doubles(t);
}

std::optional<Row> bias_of(const Graph& g, const Linear& l) {
  const Node& n = g.node(l.id);
  const Tensor* c = n.op == "MatMul" ? nullptr : g.constant_input(n, 2);
  if (!c) return Row(static_cast<size_t>(l.channels), 0.0);
  if (n.op != "Gemm") return doubles(*c);
  auto row = per_channel(*c, l);
  if (!row) return {};
  const double beta = n.real("beta", 1.0F);
  if (beta != 1.0)
    for (double& v : *row) v *= beta;
  return row;
}

void set_bias(GraphEditor& edit, const Linear& l, const Row& row) {
  Node& n = edit.graph.node(l.id);
  if (n.op == "MatMul") {
    n.op = "Gemm";
    n.since_version = 13;
  }
  n.attributes.erase("beta");
  edit.set_constant_input(l.id, 2, n.name + ".bias", tensor_of(l.weight->type(), {l.channels}, row));
}

namespace {

// Each weight times the factor of its output channel, rounded once; no copy of the weights in double.
template <class T, class Channel>
void scale_each(const Tensor& from, Tensor& to, const Row& by, Channel channel) {
  const auto x = from.values<T>();
  const auto y = to.mutable_values<T>();
  for (size_t i = 0; i < y.size(); ++i) y[i] = static_cast<T>(static_cast<double>(x[i]) * by[channel(i)]);
}

}  // namespace

void scale_weights(GraphEditor& edit, const Linear& l, const Row& by) {
  const Node& n = edit.graph.node(l.id);
  const Tensor& w = *l.weight;
  const Dims& d = w.dims();
  Tensor scaled(w.type(), d);
  const auto scale = [&](auto channel) {
    if (w.type() == DType::f64) scale_each<double>(w, scaled, by, channel);
    else scale_each<float>(w, scaled, by, channel);
  };
  if (n.op == "ConvTranspose") {  // [in, out / group, kernel...]
    const int64_t group = n.integer("group", 1), per_group = d[1], in_per_group = d[0] / group;
    const int64_t inner = w.count() / std::max<int64_t>(d[0] * d[1], 1);
    scale([&](size_t i) {
      const int64_t m = static_cast<int64_t>(i) / inner % per_group, in = static_cast<int64_t>(i) / inner / per_group;
      return static_cast<size_t>(in / in_per_group * per_group + m);
    });
  } else if (n.op == "Conv" || (n.op == "Gemm" && n.integer("transB", 0))) {
    const size_t inner = static_cast<size_t>(w.count() / std::max<int64_t>(d[0], 1));
    scale([&](size_t i) { return i / inner; });
  } else {
    scale([&](size_t i) { return i % static_cast<size_t>(l.channels); });
  }
  const std::string name = edit.graph.value(n.inputs[1]).name;
  edit.set_constant_input(l.id, 1, name, std::move(scaled));
}

}  // namespace quern
