// Batch normalization, scales and biases go into the constants of the linear node before them. All arithmetic in double,
// rounded to the type of the weights once.
#include <algorithm>
#include <cmath>

#include "core/graph/linear.hpp"
#include "core/graph/passes.hpp"

namespace quern {
namespace {

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

// x of a Gemm is turned by a node of its own.
void turn_input(GraphEditor& edit, NodeId id) {
  Graph& g = edit.graph;
  const Node n = g.node(id);
  const Value x = g.value(n.inputs[0]);
  std::optional<Dims> shape = x.shape;
  if (shape) std::reverse(shape->begin(), shape->end());
  const ValueId turned = g.add_value(g.unique_name(x.name + ".turned"), x.dtype, shape);
  edit.add_node({.name = g.unique_name(n.name + ".Transpose"), .op = "Transpose", .since_version = 13, .inputs = {n.inputs[0]}, .outputs = {turned},
                 .attributes = {{"perm", std::vector<int64_t>{1, 0}}}, .origin = n.origin.empty() ? std::vector<std::string>{n.name} : n.origin});
  edit.set_input(id, 0, turned);
  g.node(id).attributes.erase("transA");
}

// A Gemm of constants says y = x B + c, with c a row.
bool plain_gemm(GraphEditor& edit, NodeId id) {
  if (!is_ai(edit.graph.node(id), "Gemm")) return false;
  const auto l = linear(edit, id);
  if (!l || l->channels == 0) return false;
  bool changed = edit.graph.node(id).integer("transA", 0) != 0;
  if (changed) turn_input(edit, id);
  const double alpha = edit.graph.node(id).real("alpha", 1.0F), beta = edit.graph.node(id).real("beta", 1.0F);
  const Tensor* c = edit.graph.constant_input(edit.graph.node(id), 2);
  if (beta != 1.0 && (!c || beta == 0.0)) {
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
