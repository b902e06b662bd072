// Activations that exporters write in several nodes become the one operator they are.
#include <cmath>
#include <limits>

#include "core/graph/matcher.hpp"
#include "core/graph/passes.hpp"

namespace quern {
namespace {

using Polynomial = Match::Polynomial;
constexpr double inf = std::numeric_limits<double>::infinity();
const double root_half = std::sqrt(0.5), tanh_gelu = std::sqrt(2 / std::acos(-1.0)), tanh_gelu_cube = 0.044715;

bool is_linear(const Polynomial& p) { return p[2] == 0 && p[3] == 0; }
bool is_multiple(const Polynomial& p) { return p[0] == 0 && p[1] != 0 && is_linear(p); }
// k * (x + 0.044715 x^3), the argument of the approximated GELU.
bool is_gelu_cubic(const Polynomial& p, double k) { return p[0] == 0 && p[2] == 0 && near(p[1], k) && near(p[3], k * tanh_gelu_cube); }

// What a node does to one tensor by cutting it off: Relu, Clip, Max and Min with a number.
struct Bounds { ValueId x = no_value; double low = -inf, high = inf; };

std::optional<Bounds> bounds(const Match& m, const Node& n) {
  Bounds b;
  if (n.op == "Relu") {
    b.x = n.inputs.at(0);
    b.low = 0;
    return b;
  }
  if (n.op == "Clip" && n.since_version >= 11) {
    b.x = n.inputs.at(0);
    for (size_t slot = 1; slot < 3 && slot < n.inputs.size(); ++slot) {
      if (n.inputs[slot] == no_value) continue;
      const auto c = m.number(n.inputs[slot]);
      if (!c) return {};
      (slot == 1 ? b.low : b.high) = *c;
    }
  } else if ((n.op == "Max" || n.op == "Min") && n.inputs.size() == 2) {
    const auto right = m.number(n.inputs[1]), left = right ? std::nullopt : m.number(n.inputs[0]);
    if (!right && !left) return {};
    b.x = n.inputs[right ? 0 : 1];
    (n.op == "Max" ? b.low : b.high) = right ? *right : *left;
  } else {
    return {};
  }
  if (b.x == no_value || m.number(b.x) || !(b.low <= b.high)) return {};
  return b;
}

// y = s * clip(a x + b, low, high) + t, as max(0, min(1, alpha x + beta)).
std::optional<std::pair<double, double>> hard_sigmoid_of(const Bounds& b, double a, double shift, double s, double t) {
  const double low = s * b.low + t, high = s * b.high + t;
  if (!std::isfinite(low) || !std::isfinite(high) || std::fabs(low) > 2e-6 || !near(high, 1)) return {};
  return {{s * a, s * shift + t}};
}

bool is_hard_swish(double alpha, double beta) { return near(alpha, 1.0 / 6) && near(beta, 0.5); }

// number * x * gate: Swish, HardSwish, Mish, both forms of GELU.
bool gated(Match& m, ValueId x, ValueId gate, double number) {
  Affine a = m.affine(gate);
  a.s *= number;
  a.t *= number;
  const Node* n = m.maker(a.inner);
  if (!n || n->inputs.empty()) return false;
  const bool plain = near(a.s, 1) && a.t == 0, half = near(std::fabs(a.s), 0.5) && near(a.t, 0.5);
  const auto becomes = [&](const char* op, int version, std::map<std::string, Attribute> attributes) {
    m.add(*n);
    if (!m.closed() || !m.same_shape(x)) return false;
    m.become(op, version, {x}, std::move(attributes));
    return true;
  };
  if (n->op == "Tanh" && plain) {  // of Softplus: log(1 + e^x), which may be written out
    const ValueId inner = n->inputs[0];
    const Node* plus = m.take(inner, "Softplus");
    if (plus) return plus->inputs[0] == x && becomes("Mish", 18, {});
    const Node* log = m.take(inner, "Log");
    const Node* sum = log ? m.take(log->inputs[0], "Add") : nullptr;
    for (size_t slot = 0; sum && slot < 2; ++slot) {
      const auto one = m.number(sum->inputs[slot]);
      const Node* e = one && *one == 1 ? m.take(sum->inputs[1 - slot], "Exp") : nullptr;
      if (e) return e->inputs[0] == x && becomes("Mish", 18, {});
    }
    return false;
  }
  if (auto b = bounds(m, *n)) {
    const auto p = m.polynomial(b->x, x);
    if (!p || !is_linear(*p)) return false;
    const auto h = hard_sigmoid_of(*b, (*p)[1], (*p)[0], a.s, a.t);
    return h && is_hard_swish(h->first, h->second) && becomes("HardSwish", 14, {});
  }
  const bool known = n->op == "Sigmoid" || n->op == "HardSigmoid" || n->op == "Tanh" || n->op == "Erf";
  if (!known) return false;
  const auto p = m.polynomial(n->inputs[0], x);
  if (!p) return false;
  const double sign = a.s < 0 ? -1 : 1;  // 1 - erf(-x) is 1 + erf(x)
  if (n->op == "Sigmoid" && plain) {
    if (is_multiple(*p)) return becomes("Swish", 24, {{"alpha", static_cast<float>((*p)[1])}});
    return is_gelu_cubic(*p, 2 * tanh_gelu) && becomes("Gelu", 20, {{"approximate", std::string("tanh")}});
  }
  if (n->op == "HardSigmoid" && plain) {
    const double alpha = static_cast<double>(n->real("alpha", 0.2F)), beta = static_cast<double>(n->real("beta", 0.5F));
    return is_linear(*p) && is_hard_swish(alpha * (*p)[1], alpha * (*p)[0] + beta) && becomes("HardSwish", 14, {});
  }
  if (n->op == "Tanh" && half) {
    if (is_multiple(*p)) return becomes("Swish", 24, {{"alpha", static_cast<float>(2 * sign * (*p)[1])}});
    return a.s > 0 && is_gelu_cubic(*p, tanh_gelu) && becomes("Gelu", 20, {{"approximate", std::string("tanh")}});
  }
  if (n->op == "Erf" && half)
    return is_multiple(*p) && near(sign * (*p)[1], root_half) && becomes("Gelu", 20, {{"approximate", std::string("none")}});
  return false;
}

bool gated_product(GraphEditor& edit, NodeId id) {
  Match m(edit, id);
  const Product p = m.product(m.last());
  if (p.factors.size() != 2 || p.number == 0) return false;
  const size_t before = m.mark();
  for (size_t i = 0; i < 2; ++i) {
    if (gated(m, p.factors[i], p.factors[1 - i], p.number)) return true;
    m.back(before);
  }
  return false;
}

// 1 / (1 + e^-x) and x / (1 + e^-x).
bool logistic(GraphEditor& edit, NodeId id) {
  Match m(edit, id);
  const Node& n = m.last();
  const bool reciprocal = n.op == "Reciprocal";
  if (!reciprocal && (n.op != "Div" || n.inputs.size() != 2)) return false;
  const Node* sum = m.take(n.inputs[reciprocal ? 0 : 1], "Add");
  if (!sum || sum->inputs.size() != 2) return false;
  const Node* e = nullptr;
  for (size_t slot = 0; slot < 2 && !e; ++slot)
    if (m.number(sum->inputs[slot]) == 1.0) e = m.take(sum->inputs[1 - slot], "Exp");
  if (!e) return false;
  const std::optional<double> over = reciprocal ? std::optional(1.0) : m.number(n.inputs[0]);
  if (over) {
    const Affine a = m.affine(e->inputs[0]);
    if (*over != 1 || a.s != -1 || a.t != 0 || !m.closed() || !m.same_shape(a.inner)) return false;
    m.become("Sigmoid", 13, {a.inner});
    return true;
  }
  const ValueId x = n.inputs[0];
  const auto p = m.polynomial(e->inputs[0], x);
  if (!p || !is_multiple(*p) || !m.closed() || !m.same_shape(x)) return false;
  m.become("Swish", 24, {x}, {{"alpha", static_cast<float>(-(*p)[1])}});
  return true;
}

// s * clip(a x + b) + t with the slopes that frameworks call hard sigmoid. Others stay: a Clip that a Conv can take in is worth more.
bool hard_sigmoid(GraphEditor& edit, NodeId id) {
  Match m(edit, id);
  Affine outer{m.last().outputs[0], 1, 0};
  const Node* n = &m.last();
  if (!bounds(m, *n)) {
    // The last node scales; what lies above it may be used by it alone.
    Product p = m.product(*n);
    if (p.factors.size() != 1 || p.number == 0) return false;
    outer = m.affine(p.factors[0]);
    outer.s *= p.number;
    outer.t *= p.number;
    n = m.maker(outer.inner);
    if (!n) return false;
    m.add(*n);
  }
  const auto b = bounds(m, *n);
  if (!b || !std::isfinite(b->low) || !std::isfinite(b->high)) return false;
  const Affine inner = m.affine(b->x);
  const auto h = hard_sigmoid_of(*b, inner.s, inner.t, outer.s, outer.t);
  if (!h || !(near(h->first, 1.0 / 6) || near(h->first, 0.2)) || !near(h->second, 0.5)) return false;
  if (!m.closed() || !m.same_shape(inner.inner)) return false;
  m.become("HardSigmoid", 6, {inner.inner}, {{"alpha", static_cast<float>(h->first)}, {"beta", static_cast<float>(h->second)}});
  return true;
}

// Max and Min with numbers, alone, nested, and behind Relu or Clip.
bool clip(GraphEditor& edit, NodeId id) {
  Match m(edit, id);
  const auto outer = bounds(m, m.last());
  if (!outer) return false;
  Bounds b = *outer;
  if (const Node* n = m.maker(b.x); n && edit.only_used_here(b.x)) {
    if (const auto inner = bounds(m, *n)) {
      m.add(*n);
      b = {inner->x, std::min(std::max(inner->low, outer->low), outer->high), std::min(std::max(inner->high, outer->low), outer->high)};
    }
  }
  const bool written_out = m.last().op == "Max" || m.last().op == "Min" || m.mark() > 1;
  if (!written_out || !m.closed() || !m.same_shape(b.x)) return false;
  if (b.low == 0 && b.high == inf) {
    m.become("Relu", 13, {b.x});
    return true;
  }
  std::vector<ValueId> inputs{b.x, no_value, no_value};
  const Value& like = edit.graph.value(b.x);
  const Tensor low = scalar_like(like, b.low), high = scalar_like(like, b.high);
  if (std::isfinite(b.low)) inputs[1] = m.constant("min", low);
  if (std::isfinite(b.high)) inputs[2] = m.constant("max", high);
  while (inputs.back() == no_value) inputs.pop_back();
  m.become("Clip", 13, inputs);
  return true;
}

// Max(x, a x), and Relu(x) - a Relu(-x).
bool leaky_relu(GraphEditor& edit, NodeId id) {
  for (size_t slot = 0; slot < 2; ++slot) {
    Match m(edit, id);
    const Node& n = m.last();
    if (n.inputs.size() != 2) return false;
    ValueId x = n.inputs[slot];
    double alpha = 0;
    if (n.op == "Max" || n.op == "Min") {
      const auto p = m.number(x) ? std::nullopt : m.polynomial(n.inputs[1 - slot], x);
      if (!p || !is_multiple(*p)) continue;
      alpha = (*p)[1];
      if (n.op == "Max" ? alpha >= 1 : alpha <= 1) continue;
    } else {
      if (n.op == "Sub" && slot == 1) return false;
      const Node* positive = m.take(x, "Relu");
      if (!positive) continue;
      x = positive->inputs[0];
      const Affine a = m.affine(n.inputs[1 - slot]);
      const Node* negative = a.t == 0 ? m.take(a.inner, "Relu") : nullptr;
      const auto p = negative ? m.polynomial(negative->inputs[0], x) : std::nullopt;
      if (!p || !is_multiple(*p) || (*p)[1] != -1) continue;
      alpha = n.op == "Sub" ? a.s : -a.s;
    }
    if (!m.closed() || !m.same_shape(x)) continue;
    m.become("LeakyRelu", 6, {x}, {{"alpha", static_cast<float>(alpha)}});
    return true;
  }
  return false;
}

bool prelu(GraphEditor& edit, NodeId id) {
  Match m(edit, id);
  const Node& n = m.last();
  if (n.inputs.size() != 2) return false;
  const auto slope = m.number(n.inputs[1]);
  if (!slope || !m.same_shape(n.inputs[0])) return false;
  m.become("LeakyRelu", 6, {n.inputs[0]}, {{"alpha", static_cast<float>(*slope)}});
  return true;
}

bool recognize(GraphEditor& edit, NodeId id) {
  const Node& n = edit.graph.node(id);
  if (n.removed || !n.domain.empty() || n.payload || n.outputs.size() != 1) return false;
  const std::string op = n.op;
  if (op == "Mul") return gated_product(edit, id) || hard_sigmoid(edit, id);
  if (op == "Div") return gated_product(edit, id) || hard_sigmoid(edit, id) || logistic(edit, id);
  if (op == "Reciprocal") return logistic(edit, id);
  if (op == "Max" || op == "Min") {
    if (!clip(edit, id)) return leaky_relu(edit, id);
    hard_sigmoid(edit, id);
    return true;
  }
  if (op == "Clip" || op == "Relu") return hard_sigmoid(edit, id) || clip(edit, id);
  if (op == "Add" || op == "Sub") return leaky_relu(edit, id);
  if (op == "PRelu") return prelu(edit, id);
  return false;
}

}  // namespace

int64_t recognize_activations(Graph& graph) {
  int64_t changed = 0;
  GraphEditor edit(graph);
  for (NodeId id : graph.order()) changed += recognize(edit, id);
  return changed;
}

}  // namespace quern
