#include "core/graph/matcher.hpp"

#include <algorithm>
#include <cmath>

#include "core/graph/linear.hpp"

namespace quern {
namespace {

constexpr size_t most_members = 24;  // no pattern is larger; keeps a pass linear



}  // namespace

bool near(double a, double b) { return std::fabs(a - b) <= 2e-6 * std::max(std::fabs(a), std::fabs(b)); }

Tensor scalar_like(const Value& v, double number) {
  return v.dtype == DType::f64 ? Tensor::scalar(number) : Tensor::scalar(static_cast<float>(number));
}

const Node* Match::maker(ValueId v) const {
  if (v == no_value || g_.value(v).producer == no_node) return nullptr;
  const Node& n = g_.node(g_.value(v).producer);
  if (n.removed || !n.domain.empty() || n.payload || n.outputs.size() != 1) return nullptr;
  return &n;
}

void Match::add(const Node& node) {
  const NodeId id = id_of(node);
  if (std::find(members_.begin(), members_.end(), id) == members_.end()) members_.push_back(id);
}

const Node* Match::take(ValueId v, const char* op) {
  const Node* n = maker(v);
  if (!n || n->op != op) return nullptr;
  add(*n);
  return n;
}

std::optional<double> Match::number(ValueId v) const {
  if (v == no_value) return {};
  const Tensor* t = g_.value(v).constant.get();
  if (!t || !is_real(t->type()) || t->count() == 0) return {};
  const auto same = [](auto values) -> std::optional<double> {
    for (const auto e : values)
      if (!(e == values[0])) return {};
    return static_cast<double>(values[0]);
  };
  const auto n = t->type() == DType::f64 ? same(t->values<double>()) : same(t->values<float>());
  return n && std::isfinite(*n) ? n : std::nullopt;
}

std::optional<double> Match::exponent(ValueId v) const {
  if (const auto n = number(v)) return n;
  const Tensor* t = v == no_value ? nullptr : g_.value(v).constant.get();
  if (!t || t->count() != 1 || (t->type() != DType::s64 && t->type() != DType::s32)) return {};
  return static_cast<double>(t->to_ints()[0]);
}

std::optional<Match::Polynomial> Match::polynomial(ValueId v, ValueId x, int depth) {
  if (v == x) return Polynomial{0, 1, 0, 0};
  if (const auto c = number(v)) return Polynomial{*c, 0, 0, 0};
  const Node* n = maker(v);
  if (!n || depth == 0 || members_.size() >= most_members) return {};
  const size_t before = mark();
  const auto fail = [&]() -> std::optional<Polynomial> { back(before); return {}; };
  const auto times = [](const Polynomial& a, const Polynomial& b) -> std::optional<Polynomial> {
    Polynomial p{};
    for (size_t i = 0; i < 4; ++i)
      for (size_t j = 0; j < 4; ++j) {
        if (a[i] == 0 || b[j] == 0) continue;
        if (i + j > 3) return {};
        p[i + j] += a[i] * b[j];
      }
    return p;
  };
  const bool two = n->op == "Add" || n->op == "Sub" || n->op == "Mul" || n->op == "Div" || n->op == "Pow";
  if (!(two && n->inputs.size() == 2) && n->op != "Neg") return {};
  auto a = polynomial(n->inputs[0], x, depth - 1);
  if (!a) return fail();
  Polynomial p = *a;
  if (n->op == "Neg") {
    for (double& c : p) c = -c;
  } else if (n->op == "Pow") {
    const auto e = exponent(n->inputs[1]);
    if (!e || (*e != 2 && *e != 3)) return fail();
    auto q = times(p, p);
    if (q && *e == 3) q = times(*q, p);
    if (!q) return fail();
    p = *q;
  } else {
    const auto b = polynomial(n->inputs[1], x, depth - 1);
    if (!b) return fail();
    if (n->op == "Add" || n->op == "Sub") {
      for (size_t i = 0; i < 4; ++i) p[i] += n->op == "Add" ? (*b)[i] : -(*b)[i];
    } else if (n->op == "Mul") {
      const auto q = times(p, *b);
      if (!q) return fail();
      p = *q;
    } else {
      if ((*b)[0] == 0 || (*b)[1] != 0 || (*b)[2] != 0 || (*b)[3] != 0) return fail();
      for (double& c : p) c /= (*b)[0];
    }
  }
  add(*n);
  return p;
}

Affine Match::affine(ValueId v) {
  Affine a{v, 1, 0};
  for (int steps = 0; steps < 8; ++steps) {
    const Node* n = maker(a.inner);
    if (!n || !edit_.only_used_here(a.inner)) return a;
    if (n->op == "Neg") {
      a.s = -a.s;
      a.inner = n->inputs[0];
    } else if (n->inputs.size() == 2 && (n->op == "Add" || n->op == "Sub" || n->op == "Mul" || n->op == "Div")) {
      const auto right = number(n->inputs[1]), left = right ? std::nullopt : number(n->inputs[0]);
      if (!right && !left) return a;
      const double c = right ? *right : *left;
      if (n->op == "Add") a.t += a.s * c;
      else if (n->op == "Mul") a.s *= c;
      else if (n->op == "Sub" && right) a.t -= a.s * c;
      else if (n->op == "Sub") a.t += a.s * c, a.s = -a.s;
      else if (right && c != 0) a.s /= c;
      else return a;
      a.inner = right ? n->inputs[0] : n->inputs[1];
    } else {
      return a;
    }
    add(*n);
  }
  return a;
}

Product Match::product(const Node& node, int depth) {
  Product p;
  if (node.inputs.size() != 2) return p;
  for (size_t slot = 0; slot < 2; ++slot) {
    const ValueId v = node.inputs[slot];
    if (const auto c = number(v)) {
      if (node.op == "Div" && slot == 1 && *c == 0) { p.factors.assign(8, no_value); return p; }
      p.number = node.op == "Div" && slot == 1 ? p.number / *c : p.number * *c;
      continue;
    }
    if (node.op == "Div" && slot == 1) { p.factors.assign(8, no_value); return p; }  // not a product
    const Node* n = maker(v);
    const bool inner = n && depth > 0 && edit_.only_used_here(v) &&
                       (n->op == "Mul" || (n->op == "Div" && n->inputs.size() == 2 && number(n->inputs[1])));
    if (!inner) { p.factors.push_back(v); continue; }
    add(*n);
    const Product q = product(*n, depth - 1);
    p.number *= q.number;
    p.factors.insert(p.factors.end(), q.factors.begin(), q.factors.end());
  }
  return p;
}

bool Match::inside(ValueId v) const {
  if (edit_.is_output(v)) return false;
  const auto& users = edit_.users(v);
  if (users.size() > 2 * members_.size()) return false;
  return std::all_of(users.begin(), users.end(),
                     [&](NodeId u) { return std::find(members_.begin(), members_.end(), u) != members_.end(); });
}

bool Match::closed() const {
  return std::all_of(members_.begin() + 1, members_.end(), [&](NodeId id) { return inside(g_.node(id).outputs[0]); });
}

bool Match::same_shape(ValueId x) const {
  const Value &a = g_.value(x), &b = g_.value(last().outputs[0]);
  return is_real(a.dtype) && a.dtype == b.dtype && a.shape && b.shape && *a.shape == *b.shape;
}

ValueId Match::constant(const char* what, Tensor tensor) { return g_.add_constant(last().name + "." + what, std::move(tensor)); }

void Match::become(const std::string& op, int since_version, std::vector<ValueId> inputs, std::map<std::string, Attribute> attributes) {
  const NodeId id = members_.front();
  std::vector<NodeId> others(members_.begin() + 1, members_.end());
  std::sort(others.begin(), others.end());
  for (NodeId o : others) add_origin(g_.node(id), g_.node(o));
  edit_.drop_inputs(id, 0);
  for (NodeId o : others) edit_.remove_node(o);
  for (size_t i = 0; i < inputs.size(); ++i) edit_.set_input(id, i, inputs[i]);
  Node& n = g_.node(id);
  n.op = op;
  n.since_version = since_version;
  n.attributes = std::move(attributes);
}

}  // namespace quern
