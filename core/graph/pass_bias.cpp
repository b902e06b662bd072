// Batch normalization, scales and biases go into the constants of the linear node before them. All arithmetic in double,
// rounded to the type of the weights once.
#include <algorithm>
#include <cmath>

#include "core/graph/editor.hpp"
#include "core/graph/passes.hpp"

namespace quern {
namespace {

using Row = std::vector<double>;

bool is_real(DType t) { return t == DType::f32 || t == DType::f64; }

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

// A Conv, ConvTranspose, Gemm or MatMul whose weights are constant: what scales and shifts of its output channels need.
struct Linear {
  NodeId id = no_node;
  const Tensor* weight = nullptr;
  int64_t channels = 0;
  int64_t channel_axis = 1;  // of the output
  int64_t rank = 0;          // of the output
};

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

// `t` as one number per channel: everything but the channel axis is 1. None when it has another shape.
std::optional<Row> per_channel(const Tensor& t, const Linear& l) {
  if (t.rank() > l.rank) return {};
  if (t.count() == 1) return Row(static_cast<size_t>(l.channels), doubles(t)[0]);
  if (t.count() != l.channels) return {};
  const int64_t axis = l.channel_axis - (l.rank - t.rank());
  if (axis < 0 || t.dims()[static_cast<size_t>(axis)] != l.channels) return {};
  return doubles(t);
}

// The bias of a node per channel, zeros where it has none. A Gemm's also with beta. None for a full matrix.
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

void scale_weights(GraphEditor& edit, const Linear& l, const Row& by) {
  const Node& n = edit.graph.node(l.id);
  const Tensor& w = *l.weight;
  Row v = doubles(w);
  const Dims& d = w.dims();
  if (n.op == "ConvTranspose") {  // [in, out / group, kernel...]
    const int64_t group = n.integer("group", 1), per_group = d[1], in_per_group = d[0] / group;
    const int64_t inner = w.count() / std::max<int64_t>(d[0] * d[1], 1);
    for (size_t i = 0; i < v.size(); ++i) {
      const int64_t m = static_cast<int64_t>(i) / inner % per_group, in = static_cast<int64_t>(i) / inner / per_group;
      v[i] *= by[static_cast<size_t>(in / in_per_group * per_group + m)];
    }
  } else if (n.op == "Conv" || (n.op == "Gemm" && n.integer("transB", 0))) {
    const size_t inner = v.size() / static_cast<size_t>(std::max<int64_t>(d[0], 1));
    for (size_t i = 0; i < v.size(); ++i) v[i] *= by[i / inner];
  } else {
    for (size_t i = 0; i < v.size(); ++i) v[i] *= by[i % static_cast<size_t>(l.channels)];
  }
  const std::string name = edit.graph.value(n.inputs[1]).name;
  edit.set_constant_input(l.id, 1, name, tensor_of(w.type(), d, v));
}

// The follower's output is now made by the linear node.
void absorb(GraphEditor& edit, NodeId linear_id, NodeId follower) {
  add_origin(edit.graph.node(linear_id), edit.graph.node(follower));
  const ValueId out = edit.graph.node(follower).outputs[0];
  edit.remove_node(follower);
  edit.set_output(linear_id, 0, out);
}

// The linear node that feeds `slot` of `id` alone.
std::optional<Linear> linear_before(GraphEditor& edit, NodeId id, size_t slot) {
  const NodeId before = edit.producer(id, slot);
  if (before == no_node || edit.sole_user(edit.graph.node(id).inputs[slot]) != id) return {};
  return linear(edit, before);
}

bool fold_batch_norm(GraphEditor& edit, NodeId id) {
  Graph& g = edit.graph;
  const Node& n = g.node(id);
  if (!is_ai(n, "BatchNormalization") || n.inputs.size() != 5 || n.integer("training_mode", 0) != 0) return false;
  for (size_t i = 1; i < n.outputs.size(); ++i)
    if (n.outputs[i] != no_value && (edit.is_output(n.outputs[i]) || !edit.users(n.outputs[i]).empty())) return false;
  const auto l = linear_before(edit, id, 0);
  if (!l || l->channel_axis != 1) return false;
  Row p[4];
  for (size_t i = 0; i < 4; ++i) {
    const Tensor* t = g.constant_input(n, i + 1);
    if (!t || !is_real(t->type()) || t->count() != l->channels) return false;
    p[i] = doubles(*t);
  }
  const auto bias = bias_of(g, *l);
  if (!bias) return false;
  const double epsilon = n.real("epsilon", 1e-5F);
  Row scale(p[0].size()), shift(p[0].size());
  for (size_t c = 0; c < scale.size(); ++c) {
    scale[c] = p[0][c] / std::sqrt(p[3][c] + epsilon);
    shift[c] = ((*bias)[c] - p[2][c]) * scale[c] + p[1][c];
  }
  const Linear known = *l;
  set_bias(edit, known, shift);  // before the weights: it may make a Gemm of the MatMul
  scale_weights(edit, known, scale);
  absorb(edit, known.id, id);
  return true;
}

// Mul or Div by a constant per channel.
bool fold_scale(GraphEditor& edit, NodeId id) {
  Graph& g = edit.graph;
  const Node& n = g.node(id);
  if (!is_ai(n, "Mul") && !is_ai(n, "Div")) return false;
  for (size_t slot = 0; slot < 2; ++slot) {
    if (slot == 1 && n.op == "Div") break;
    const Tensor* c = g.constant_input(n, 1 - slot);
    if (!c || !is_real(c->type())) continue;
    const auto l = linear_before(edit, id, slot);
    if (!l || l->weight->type() != c->type()) continue;
    auto scale = per_channel(*c, *l);
    auto bias = bias_of(g, *l);
    if (!scale || !bias) continue;
    const bool has_bias = g.node(l->id).op != "MatMul" && g.constant_input(g.node(l->id), 2);
    if (n.op == "Div")
      for (double& v : *scale) v = 1.0 / v;
    if (!std::all_of(scale->begin(), scale->end(), [](double v) { return std::isfinite(v); })) continue;
    for (size_t i = 0; i < bias->size(); ++i) (*bias)[i] *= (*scale)[i];
    const Linear known = *l;
    if (has_bias) set_bias(edit, known, *bias);
    scale_weights(edit, known, *scale);
    absorb(edit, known.id, id);
    return true;
  }
  return false;
}

// Add or Sub of a constant per channel.
bool fold_bias(GraphEditor& edit, NodeId id) {
  Graph& g = edit.graph;
  const Node& n = g.node(id);
  if (!is_ai(n, "Add") && !is_ai(n, "Sub")) return false;
  for (size_t slot = 0; slot < 2; ++slot) {
    if (slot == 1 && n.op == "Sub") break;
    const Tensor* c = g.constant_input(n, 1 - slot);
    if (!c || !is_real(c->type())) continue;
    const auto l = linear_before(edit, id, slot);
    if (!l || l->weight->type() != c->type() || l->channels == 0) continue;
    if (g.node(l->id).op == "MatMul" && l->rank != 2) continue;
    auto more = per_channel(*c, *l);
    auto bias = bias_of(g, *l);
    if (!more || !bias) continue;
    for (size_t i = 0; i < bias->size(); ++i) (*bias)[i] += n.op == "Sub" ? -(*more)[i] : (*more)[i];
    const Linear known = *l;
    set_bias(edit, known, *bias);
    absorb(edit, known.id, id);
    return true;
  }
  return false;
}

// A Gemm of constants says y = x B + c, with c a row.
bool plain_gemm(GraphEditor& edit, NodeId id) {
  if (!is_ai(edit.graph.node(id), "Gemm")) return false;
  const auto l = linear(edit, id);
  if (!l || l->channels == 0) return false;
  bool changed = false;
  const double alpha = edit.graph.node(id).real("alpha", 1.0F), beta = edit.graph.node(id).real("beta", 1.0F);
  const Tensor* c = edit.graph.constant_input(edit.graph.node(id), 2);
  if (c && beta == 0.0) {
    edit.drop_inputs(id, 2);
    edit.graph.node(id).attributes.erase("beta");
    changed = true;
  } else if (c && (beta != 1.0 || c->dims() != Dims{l->channels})) {
    if (auto row = bias_of(edit.graph, *l)) {
      set_bias(edit, *l, *row);
      changed = true;
    }
  }
  if (alpha != 1.0 && std::isfinite(alpha)) {
    edit.graph.node(id).attributes.erase("alpha");
    scale_weights(edit, *l, Row(static_cast<size_t>(l->channels), alpha));
    changed = true;
  }
  return changed;
}

}  // namespace

int64_t fold_batch_norms(Graph& graph) {
  int64_t changed = 0;
  GraphEditor edit(graph);
  for (NodeId id : graph.order()) changed += fold_batch_norm(edit, id) || fold_scale(edit, id);
  return changed;
}

int64_t canonicalize_bias(Graph& graph) {
  int64_t changed = 0;
  GraphEditor edit(graph);
  for (NodeId id : graph.order()) {
    changed += plain_gemm(edit, id);
    changed += fold_bias(edit, id);
  }
  return changed;
}

}  // namespace quern
