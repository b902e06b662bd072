#include "sdk/conformance/drawing.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.hpp"
#include "core/graph/shapes.hpp"
#include "core/onnx/onnx.hpp"

namespace quern::conform {
namespace {

double nearest_allowed(const AttributeLimit& limit, double wanted) {
  std::vector<double> choices;
  for (const Attribute& a : limit.one_of) {
    if (const auto* i = std::get_if<int64_t>(&a)) choices.push_back(static_cast<double>(*i));
    if (const auto* f = std::get_if<float>(&a)) choices.push_back(*f);
  }
  if (!choices.empty())
    wanted = *std::min_element(choices.begin(), choices.end(), [&](double a, double b) { return std::abs(a - wanted) < std::abs(b - wanted); });
  if (limit.min) wanted = std::max(wanted, *limit.min);
  if (limit.max) wanted = std::min(wanted, *limit.max);
  return wanted;
}

// The definitions of an operator that mean the newest thing: the last group of the host's table.
int newest_version(const std::string& op, const OpMatch& match, Source& source) {
  if (!match.since_versions.empty()) return source.one_of(match.since_versions);
  for (const auto& gate : operator_gates())
    if (gate.op == op && !gate.since_versions.empty()) return gate.since_versions.back();
  return 1;
}

bool follow(Drawing& d, const Step& step, Source& source, size_t index) {
  Graph& g = d.graph;
  const Dims dims = *g.value(d.output).shape;
  static const OpMatch none;
  OpMatch match = none;
  match.attributes = step.rule->attributes;
  const Limits limits(match, nullptr, false);
  Pencil p{g, source, limits, {}, {}};
  p.node.name = fmt::format("follower{}", index);
  p.node.op = step.op;
  p.node.since_version = newest_version(step.op, match, source);
  p.node.inputs = {d.output};
  const auto flows = [&](const std::string& role, Dims shape) {
    p.input(role, std::move(shape));
    d.operands.push_back({role, p.node.inputs.back()});
  };
  if (step.rule->other == "bias") {
    // One number per output channel: along axis 1 of a convolution, along the last axis of a matrix product.
    const bool conv = g.node(d.members.front()).op == "Conv" || g.node(d.members.front()).op == "ConvTranspose";
    Dims shape = conv ? Dims(dims.size() - 1, 1) : Dims{dims.back()};
    if (conv) shape[0] = dims[1];
    p.constant("bias", shape);
    d.operands.push_back({"bias", p.node.inputs.back()});
  } else if (!step.rule->other.empty()) {
    flows(step.rule->other, dims);
  } else if (step.op == "Clip") {
    p.floats("low", {}, {static_cast<float>(source.pick(-2, 1)) * 0.5f});
    p.floats("high", {}, {static_cast<float>(source.pick(2, 12)) * 0.5f});
  } else if (step.op == "PRelu") {
    const bool single = step.rule->scalar || dims.size() < 2;
    Dims shape = single ? Dims{1} : Dims(dims.size() - 1, 1);
    if (!single) shape[0] = dims[1];
    std::vector<float> slopes;
    for (int64_t i = 0; i < element_count(shape); ++i) slopes.push_back(static_cast<float>(source.pick(1, 60)) / 64.f);
    p.floats("slope", shape, slopes);
  }
  const ValueId out = g.add_value(fmt::format("followed{}", index));
  p.node.outputs = {out};
  const NodeId id = g.add_node(p.node);
  std::string why;
  if (!attributes_hold(g, g.node(id), step.rule->attributes, &why)) return false;
  d.members.push_back(id);
  d.output = out;
  for (const ValueId v : p.flowing) {
    auto inputs = g.inputs();
    inputs.push_back(v);
    g.set_inputs(inputs);
  }
  g.set_outputs({out});
  infer_shapes(g);
  return g.value(out).shape == dims;
}

}  // namespace

bool Limits::listed(const std::vector<std::string>& roles, const std::string& role) {
  const bool numbered = role.size() > 2 && role.compare(0, 2, "in") == 0 && role[2] >= '0' && role[2] <= '9';
  return std::any_of(roles.begin(), roles.end(), [&](const std::string& r) { return r == role || (numbered && r == "in*"); });
}
const AttributeLimit* Limits::limit(const std::string& name) const {
  const auto it = match_.attributes.find(name);
  return it == match_.attributes.end() ? nullptr : &it->second;
}
int64_t Limits::number(const std::string& name, int64_t wanted) const {
  if (const Beyond* b = beyond(name)) if (const auto* i = std::get_if<int64_t>(&b->value)) return *i;
  const AttributeLimit* l = limit(name);
  return l ? static_cast<int64_t>(nearest_allowed(*l, static_cast<double>(wanted))) : wanted;
}
float Limits::real(const std::string& name, float wanted) const {
  if (const Beyond* b = beyond(name)) if (const auto* f = std::get_if<float>(&b->value)) return *f;
  const AttributeLimit* l = limit(name);
  return l ? static_cast<float>(nearest_allowed(*l, wanted)) : wanted;
}
std::vector<int64_t> Limits::list(const std::string& name, std::vector<int64_t> wanted) const {
  if (const Beyond* b = beyond(name))
    if (const auto* i = std::get_if<int64_t>(&b->value)) return std::vector<int64_t>(wanted.size(), *i);
  const AttributeLimit* l = limit(name);
  if (!l) return wanted;
  for (const Attribute& a : l->one_of)
    if (const auto* list = std::get_if<std::vector<int64_t>>(&a); list && list->size() == wanted.size()) return *list;
  for (int64_t& w : wanted) w = static_cast<int64_t>(nearest_allowed(*l, static_cast<double>(w)));
  return wanted;
}
std::string Limits::text(const std::string& name, const std::string& wanted) const {
  if (const Beyond* b = beyond(name)) if (const auto* s = std::get_if<std::string>(&b->value)) return *s;
  const AttributeLimit* l = limit(name);
  if (!l) return wanted;
  std::string first;
  for (const Attribute& a : l->one_of)
    if (const auto* s = std::get_if<std::string>(&a)) {
      if (*s == wanted) return wanted;
      if (first.empty()) first = *s;
    }
  return first.empty() ? wanted : first;
}
int64_t Limits::rank(const std::string& role, int64_t wanted, Source& source) const {
  if (beyond_ && beyond_->attribute.empty() && beyond_->role == role) return beyond_->rank;
  auto it = match_.ranks.find(role);
  if (it == match_.ranks.end() || it->second.empty()) return wanted;
  const auto& ranks = it->second;
  if (source.one_in(3)) return source.one_of(ranks);
  return std::find(ranks.begin(), ranks.end(), wanted) != ranks.end() ? wanted : ranks.front();
}

void Pencil::input(const std::string& role, Dims dims) {
  const ValueId v = graph.add_value(graph.unique_name(role), DType::f32, std::move(dims));
  flowing.push_back(v);
  node.inputs.push_back(v);
}
void Pencil::constant(const std::string& role, Dims dims) { node.inputs.push_back(graph.add_constant(graph.unique_name(role), Tensor(DType::f32, std::move(dims)))); }
void Pencil::integers(const std::string& name, const std::vector<int64_t>& values) {
  node.inputs.push_back(graph.add_constant(graph.unique_name(name), Tensor::of<int64_t>({static_cast<int64_t>(values.size())}, values)));
}
void Pencil::floats(const std::string& name, Dims dims, const std::vector<float>& values) {
  node.inputs.push_back(graph.add_constant(graph.unique_name(name), Tensor::of<float>(std::move(dims), values)));
}
int64_t Pencil::channels() {
  static const int64_t sizes[] = {1, 2, 3, 4, 5, 7, 8, 13, 16, 17, 31, 32, 33};
  return source.one_of(sizes);
}

std::optional<Drawing> draw(const Rules& rules, const Variant& variant, const Frame& frame, Source& source, std::string* why) {
  const OpMatch& match = variant.rule->match;
  Drawing d;
  const Limits limits(match, frame.beyond, std::any_of(variant.steps.begin(), variant.steps.end(), [](const Step& s) { return s.rule->other == "bias"; }));
  Pencil p{d.graph, source, limits, frame, {}};
  p.node.name = "unit";
  p.node.op = match.op;
  p.node.domain = match.domain;
  p.node.since_version = newest_version(match.op, match, source);
  d.graph.opset = 22;
  *why = "the kit has no generator for this operator";
  if (!match.domain.empty() || !(draw_window(p) || draw_product(p) || draw_pair(p) || draw_layout(p) || draw_function(p))) return std::nullopt;
  why->clear();
  d.output = d.graph.add_value("result");
  p.node.outputs = {d.output};
  d.members = {d.graph.add_node(p.node)};
  d.graph.set_inputs(p.flowing);
  d.graph.set_outputs({d.output});
  try {
    infer_shapes(d.graph);
    const Node& node = d.graph.node(d.members.front());
    const OpRule* found = match_op(rules, d.graph, node, why);
    if (frame.beyond ? found != nullptr : found != variant.rule) {
      if (why->empty()) *why = "another entry of the rules takes it";
      return std::nullopt;
    }
    const auto roles = roles_of(node);
    for (size_t i = 0; i < node.inputs.size(); ++i)
      if (!roles[i].empty() && node.inputs[i] != no_value) d.operands.push_back({roles[i], node.inputs[i]});
    if (!d.graph.value(d.output).shape) { *why = "its shape does not follow"; return std::nullopt; }
    size_t index = 0;
    for (const Step& step : variant.steps)
      if (!follow(d, step, source, index++)) { *why = "a follower does not fit"; return std::nullopt; }
    const Dims& out = *d.graph.value(d.output).shape;
    if (std::any_of(out.begin(), out.end(), [](int64_t n) { return n < 1; })) { *why = "an empty output"; return std::nullopt; }
    d.graph.check();
  } catch (const Error& e) {
    *why = e.what();
    return std::nullopt;
  }
  return d;
}

}  // namespace quern::conform
