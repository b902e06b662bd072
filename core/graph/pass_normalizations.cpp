// LayerNormalization, InstanceNormalization and Softmax that exporters write as reductions and arithmetic.
#include <algorithm>
#include <cmath>
#include <functional>

#include "core/graph/matcher.hpp"
#include "core/graph/passes.hpp"

namespace quern {
namespace {

using Axes = std::vector<int64_t>;

// Axes of a reduction that keeps them as ones, ascending and not negative.
std::optional<Axes> kept_axes(const Graph& g, const Node& n) {
  const int64_t rank = rank_of(g.value(n.inputs.at(0)));
  if (rank < 1 || n.integer("keepdims", 1) == 0) return {};
  Axes axes = n.integers("axes");
  if (n.inputs.size() > 1 && n.inputs[1] != no_value) {
    const Tensor* t = g.constant_input(n, 1);
    if (!t || t->type() != DType::s64) return {};
    axes = t->to_ints();
  }
  if (axes.empty()) {
    if (n.integer("noop_with_empty_axes", 0) != 0) return {};
    for (int64_t a = 0; a < rank; ++a) axes.push_back(a);
  }
  for (int64_t& a : axes) {
    if (a < 0) a += rank;
    if (a < 0 || a >= rank) return {};
  }
  std::sort(axes.begin(), axes.end());
  return axes;
}

// v = mean of x over the axes.
bool is_mean(Match& m, const Graph& g, ValueId v, ValueId x, const Axes& axes) {
  const Node* n = m.take(v, "ReduceMean");
  return n && n->inputs.at(0) == x && kept_axes(g, *n) == axes;
}

// What a normalisation is made of: (x - mean) / sqrt(variance + epsilon).
struct Normalized { ValueId x = no_value; Axes axes; double epsilon = 0; };

// `inverse` (or `deviation`) as 1 / sqrt(variance of x + epsilon); fills what of `found` is not known yet.
bool is_deviation(Match& m, const Graph& g, ValueId v, bool inverse, Normalized& found) {
  ValueId sum = no_value;
  if (const Node* n = m.take(v, "Pow"); n && n->inputs.size() == 2) {
    if (m.exponent(n->inputs[1]) != (inverse ? -0.5 : 0.5)) return false;
    sum = n->inputs[0];
  } else {
    ValueId root = v;
    if (inverse) {
      if (const Node* r = m.take(v, "Reciprocal")) {
        root = r->inputs.at(0);
      } else {
        const Node* d = m.take(v, "Div");
        if (!d || d->inputs.size() != 2 || m.number(d->inputs[0]) != 1.0) return false;
        root = d->inputs[1];
      }
    }
    const Node* r = m.take(root, "Sqrt");
    if (!r) return false;
    sum = r->inputs.at(0);
  }
  const Node* add = m.take(sum, "Add");
  if (!add || add->inputs.size() != 2) return false;
  ValueId variance = no_value;
  for (size_t slot = 0; slot < 2; ++slot) {
    const auto e = m.number(add->inputs[slot]);
    if (!e || !(*e >= 0)) continue;
    found.epsilon = *e;
    variance = add->inputs[1 - slot];
  }
  const Node* mean = variance == no_value ? nullptr : m.take(variance, "ReduceMean");
  if (!mean) return false;
  const auto axes = kept_axes(g, *mean);
  if (!axes || (!found.axes.empty() && found.axes != *axes)) return false;
  found.axes = *axes;
  const Node* square = m.maker(mean->inputs.at(0));
  if (!square || square->inputs.size() != 2) return false;
  const bool power = square->op == "Pow" && m.exponent(square->inputs[1]) == 2.0;
  if (!power && !(square->op == "Mul" && square->inputs[0] == square->inputs[1])) return false;
  m.add(*square);
  const Node* centred = m.take(square->inputs[0], "Sub");
  if (!centred || centred->inputs.size() != 2) return false;
  if (found.x != no_value && found.x != centred->inputs[0]) return false;
  found.x = centred->inputs[0];
  return is_mean(m, g, centred->inputs[1], found.x, found.axes);
}

Tensor filled(DType type, Dims dims, double with) {
  Tensor t(type, std::move(dims));
  if (type == DType::f64) std::fill(t.mutable_values<double>().begin(), t.mutable_values<double>().end(), with);
  else std::fill(t.mutable_values<float>().begin(), t.mutable_values<float>().end(), static_cast<float>(with));
  return t;
}

// A constant spread to `dims` (which it must fit without stretching them); none when it does not.
std::optional<Tensor> spread(const Tensor& t, const Dims& dims) {
  Dims from = t.dims();
  while (from.size() > dims.size() && from.front() == 1) from.erase(from.begin());
  if (from.size() > dims.size()) return {};
  from.insert(from.begin(), dims.size() - from.size(), 1);
  for (size_t a = 0; a < dims.size(); ++a)
    if (from[a] != 1 && from[a] != dims[a]) return {};
  Tensor out(t.type(), dims);
  const auto copy = [&](auto in, auto to) {
    for (size_t i = 0; i < to.size(); ++i) {
      size_t rest = i, at = 0, step = 1;
      for (size_t a = dims.size(); a-- > 0;) {
        const size_t index = rest % static_cast<size_t>(dims[a]);
        rest /= static_cast<size_t>(dims[a]);
        if (from[a] != 1) at += index * step;
        step *= static_cast<size_t>(from[a]);
      }
      to[i] = in[at];
    }
  };
  if (t.type() == DType::f64) copy(t.values<double>(), out.mutable_values<double>());
  else if (t.type() == DType::f32) copy(t.values<float>(), out.mutable_values<float>());
  else return {};
  return out;
}

// What scale and bias look like beside the tensor: [normalised dims] of a LayerNormalization, [C, 1, ..] of an
// InstanceNormalization.
std::optional<Tensor> as_parameter(const Graph& g, const Node& n, const Tensor& c) {
  const Value& x = g.value(n.inputs.at(0));
  if (!x.shape || c.type() != x.dtype || c.rank() > rank_of(x)) return {};
  const Dims& scale = g.value(n.inputs.at(1)).constant->dims();
  if (n.op == "LayerNormalization") return spread(c, scale);
  Dims dims(x.shape->size() - 1, 1);
  dims[0] = scale[0];
  auto t = spread(c, dims);
  if (t) *t = t->reshaped(scale);
  return t;
}

bool is_normalization(const Graph& g, const Node& n) {
  if (!is_ai(n, "LayerNormalization") && !is_ai(n, "InstanceNormalization")) return false;
  const Tensor *scale = g.constant_input(n, 1), *bias = g.constant_input(n, 2);
  return scale && (bias || n.inputs.size() < 3) && n.outputs.size() == 1 && (!bias || bias->dims() == scale->dims());
}

Tensor combined(const Tensor& a, const Tensor& b, double (*f)(double, double)) {
  Tensor out(a.type(), a.dims());
  const auto each = [&](auto x, auto y, auto to) {
    using T = std::decay_t<decltype(to[0])>;
    for (size_t i = 0; i < to.size(); ++i) to[i] = static_cast<T>(f(static_cast<double>(x[i]), static_cast<double>(y[i])));
  };
  if (a.type() == DType::f64) each(a.values<double>(), b.values<double>(), out.mutable_values<double>());
  else each(a.values<float>(), b.values<float>(), out.mutable_values<float>());
  return out;
}

// Mul, Add or Sub by a constant behind a normalisation goes into its scale and bias.
bool absorb_affine(GraphEditor& edit, NodeId id) {
  Graph& g = edit.graph;
  const Node& n = g.node(id);
  if (!is_ai(n, "Mul") && !is_ai(n, "Add") && !is_ai(n, "Sub")) return false;
  for (size_t slot = 0; slot < 2; ++slot) {
    if (n.inputs.size() != 2 || (slot == 1 && n.op == "Sub")) break;
    const NodeId before = edit.producer(id, slot);
    const Tensor* c = g.constant_input(n, 1 - slot);
    if (before == no_node || !c || edit.sole_user(n.inputs[slot]) != id || !is_normalization(g, g.node(before))) continue;
    auto by = as_parameter(g, g.node(before), *c);
    const Value &x = g.value(n.inputs[slot]), &y = g.value(n.outputs[0]);
    if (!by || !x.shape || !y.shape || *x.shape != *y.shape) continue;
    const Tensor scale = *g.constant_input(g.node(before), 1);
    const Tensor bias = g.constant_input(g.node(before), 2) ? *g.constant_input(g.node(before), 2) : filled(scale.type(), scale.dims(), 0);
    const bool mul = n.op == "Mul", sub = n.op == "Sub";
    // The last node is the one that stays, so that a file that was written out keeps its names.
    const Node norm = g.node(before);
    add_origin(g.node(id), norm);
    edit.drop_inputs(id, 0);
    edit.remove_node(before);
    g.node(id).op = norm.op;
    g.node(id).since_version = norm.since_version;
    g.node(id).attributes = norm.attributes;
    const std::string name = g.node(id).name;
    edit.set_input(id, 0, norm.inputs[0]);
    const auto times = [](double a, double b) { return a * b; };
    if (mul) edit.set_input(id, 1, g.add_constant(name + ".scale", combined(scale, *by, times)));
    else edit.set_input(id, 1, norm.inputs[1]);
    if (!mul) edit.set_input(id, 2, g.add_constant(name + ".bias", combined(bias, *by, sub ? [](double a, double b) { return a - b; } : [](double a, double b) { return a + b; })));
    else if (norm.inputs.size() > 2) edit.set_input(id, 2, g.add_constant(name + ".bias", combined(bias, *by, times)));
    return true;
  }
  return false;
}

// The normalisation over `axes` of x: which operator it is. A constant behind it that has one number per channel, or per
// normalised element, decides where both would do.
bool emit(Match& m, const Normalized& found) {
  GraphEditor& edit = m.edit();
  Graph& g = edit.graph;
  const Value& x = g.value(found.x);
  if (!m.closed() || !m.same_shape(found.x) || !x.shape || found.axes.empty()) return false;
  const auto rank = static_cast<int64_t>(x.shape->size());
  const int64_t first = found.axes.front();
  for (size_t i = 0; i < found.axes.size(); ++i)
    if (found.axes[i] != first + static_cast<int64_t>(i)) return false;
  if (found.axes.back() != rank - 1) return false;
  const Dims normalized(x.shape->begin() + first, x.shape->end());
  if (std::any_of(normalized.begin(), normalized.end(), [](int64_t d) { return d < 1; })) return false;
  const Tensor* by = nullptr;
  if (const NodeId user = edit.sole_user(m.last().outputs[0]); user != no_node && is_ai(g.node(user), "Mul"))
    for (size_t slot = 0; slot < 2; ++slot)
      if (const Tensor* c = g.constant_input(g.node(user), slot)) by = c;
  const int64_t channels = first == 2 ? (*x.shape)[1] : -1;
  bool instance = channels > 0 && rank > 3;
  if (by && channels > 0) {
    Dims per_channel(static_cast<size_t>(rank) - 1, 1);
    per_channel[0] = channels;
    if (by->count() > 1) instance = spread(*by, per_channel) && (rank > 3 || !spread(*by, normalized));
  }
  const DType type = x.dtype;
  const Dims dims = instance ? Dims{channels} : normalized;
  const auto epsilon = static_cast<float>(found.epsilon);
  const ValueId scale = m.constant("scale", filled(type, dims, 1));
  if (instance) {
    const ValueId bias = m.constant("bias", filled(type, dims, 0));
    m.become("InstanceNormalization", 6, {found.x, scale, bias}, {{"epsilon", epsilon}});
  } else {
    m.become("LayerNormalization", 17, {found.x, scale}, {{"axis", first == rank - 1 ? int64_t{-1} : first}, {"epsilon", epsilon}});
  }
  return true;
}

// (x - mean) / deviation, or times its inverse.
bool normalization(GraphEditor& edit, NodeId id) {
  const Node& n = edit.graph.node(id);
  if ((!is_ai(n, "Div") && !is_ai(n, "Mul")) || n.inputs.size() != 2) return false;
  for (size_t slot = 0; slot < 2; ++slot) {
    if (slot == 1 && n.op == "Div") break;
    Match m(edit, id);
    Normalized found;
    const Node* centred = m.take(n.inputs[slot], "Sub");
    if (!centred || !is_deviation(m, edit.graph, n.inputs[1 - slot], n.op == "Mul", found)) continue;
    if (centred->inputs[0] == found.x && is_mean(m, edit.graph, centred->inputs[1], found.x, found.axes) && emit(m, found)) return true;
  }
  return false;
}

// x * k + (beta - mean * k) with k = inverse deviation * gamma: TensorFlow's.
bool folded_normalization(GraphEditor& edit, NodeId id) {
  Graph& g = edit.graph;
  const Node& n = g.node(id);
  if (!is_ai(n, "Add") || n.inputs.size() != 2) return false;
  for (size_t slot = 0; slot < 2; ++slot) {
    Match m(edit, id);
    const Node *scaled = m.take(n.inputs[slot], "Mul"), *shift = m.take(n.inputs[1 - slot], "Sub");
    if (!scaled || !shift || scaled->inputs.size() != 2 || shift->inputs.size() != 2) continue;
    const Tensor* beta = g.constant_input(*shift, 0);
    const Node* mean_scaled = m.take(shift->inputs[1], "Mul");
    if (!beta || !mean_scaled || mean_scaled->inputs.size() != 2) continue;
    for (size_t which = 0; which < 2; ++which) {
      const ValueId k = scaled->inputs[which], x = scaled->inputs[1 - which];
      const bool same = mean_scaled->inputs[0] == k || mean_scaled->inputs[1] == k;
      if (!same) continue;
      const ValueId mean = mean_scaled->inputs[mean_scaled->inputs[0] == k ? 1 : 0];
      const size_t before = m.mark();
      ValueId inverse = k;
      const Tensor* gamma = nullptr;
      if (const Node* product = m.take(k, "Mul"); product && product->inputs.size() == 2)
        for (size_t s = 0; s < 2; ++s)
          if (const Tensor* c = g.constant_input(*product, s)) { gamma = c; inverse = product->inputs[1 - s]; }
      Normalized found;
      found.x = x;
      const bool is = is_deviation(m, g, inverse, true, found) && found.x == x && is_mean(m, g, mean, x, found.axes);
      const auto rank = rank_of(g.value(x));
      if (is && found.axes.back() == rank - 1 && found.axes.front() == rank - static_cast<int64_t>(found.axes.size()) && m.closed() && m.same_shape(x)) {
        const Dims dims(g.value(x).shape->begin() + found.axes.front(), g.value(x).shape->end());
        const DType type = g.value(x).dtype;
        const bool known = std::none_of(dims.begin(), dims.end(), [](int64_t d) { return d < 1; });
        auto scale = !known ? std::nullopt : gamma ? spread(*gamma, dims) : filled(type, dims, 1);
        auto bias = known ? spread(*beta, dims) : std::nullopt;
        if (scale && bias && scale->type() == type && bias->type() == type) {
          const ValueId s = m.constant("scale", std::move(*scale)), b = m.constant("bias", std::move(*bias));
          const int64_t axis = found.axes.size() == 1 ? -1 : found.axes.front();
          m.become("LayerNormalization", 17, {x, s, b}, {{"axis", axis}, {"epsilon", static_cast<float>(found.epsilon)}});
          return true;
        }
      }
      m.back(before);
    }
  }
  return false;
}

// e^(x - max) over its sum.
bool softmax(GraphEditor& edit, NodeId id) {
  Graph& g = edit.graph;
  const Node& n = g.node(id);
  if ((!is_ai(n, "Div") && !is_ai(n, "Mul")) || n.inputs.size() != 2) return false;
  for (size_t slot = 0; slot < 2; ++slot) {
    if (slot == 1 && n.op == "Div") break;
    Match m(edit, id);
    const ValueId e = n.inputs[slot];
    ValueId total = n.inputs[1 - slot];
    const Node* exp = m.take(e, "Exp");
    if (!exp) continue;
    if (n.op == "Mul") {
      const Node* r = m.take(total, "Reciprocal");
      if (!r) continue;
      total = r->inputs.at(0);
    }
    const Node *sum = m.take(total, "ReduceSum"), *sub = m.take(exp->inputs.at(0), "Sub");
    if (!sum || !sub || sum->inputs.at(0) != e || sub->inputs.size() != 2) continue;
    const Node* top = m.take(sub->inputs[1], "ReduceMax");
    const ValueId x = sub->inputs[0];
    if (!top || top->inputs.at(0) != x) continue;
    const auto axes = kept_axes(g, *sum);
    if (!axes || axes->size() != 1 || kept_axes(g, *top) != axes || !m.closed() || !m.same_shape(x)) continue;
    const int64_t axis = axes->front() == rank_of(g.value(x)) - 1 ? -1 : axes->front();
    m.become("Softmax", 13, {x}, {{"axis", axis}});
    return true;
  }
  return false;
}

}  // namespace

int64_t recognize_normalizations(Graph& graph) {
  int64_t changed = 0;
  GraphEditor edit(graph);
  for (NodeId id : graph.order()) {
    const Node& n = graph.node(id);
    if (n.removed || !n.domain.empty() || n.payload || n.outputs.size() != 1) continue;
    changed += normalization(edit, id) || folded_normalization(edit, id) || softmax(edit, id) || absorb_affine(edit, id);
  }
  return changed;
}

}  // namespace quern
