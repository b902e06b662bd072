// Which rule an operator falls under, and what it missed by when there is none.
#include <fmt/format.h>

#include <algorithm>

#include "core/rules/attribute_defaults.hpp"
#include "core/rules/operators.hpp"
#include "core/rules/rules.hpp"

namespace quern {
namespace {

std::string text_of(const Attribute& a) {
  struct Visitor {
    std::string operator()(int64_t v) const { return std::to_string(v); }
    std::string operator()(float v) const { return fmt::format("{}", v); }
    std::string operator()(const std::string& v) const { return v; }
    std::string operator()(const std::vector<int64_t>& v) const { return fmt::format("[{}]", fmt::join(v, ",")); }
    std::string operator()(const std::vector<float>& v) const { return fmt::format("[{}]", fmt::join(v, ",")); }
    std::string operator()(const std::vector<std::string>& v) const { return fmt::format("[{}]", fmt::join(v, ",")); }
    std::string operator()(const Tensor&) const { return "a tensor"; }
    std::string operator()(const std::shared_ptr<const Graph>&) const { return "a graph"; }
  };
  return std::visit(Visitor{}, a);
}

// Elements of a number or a list of numbers; false for anything else.
bool numbers_of(const Attribute& a, std::vector<double>& out) {
  out.clear();
  if (const auto* v = std::get_if<int64_t>(&a)) out.push_back(static_cast<double>(*v));
  else if (const auto* v = std::get_if<float>(&a)) out.push_back(*v);
  else if (const auto* v = std::get_if<std::vector<int64_t>>(&a)) out.assign(v->begin(), v->end());
  else if (const auto* v = std::get_if<std::vector<float>>(&a)) out.assign(v->begin(), v->end());
  else return false;
  return true;
}

bool is_list(const Attribute& a) { return a.index() == 3 || a.index() == 4; }

// Exactly this value; a list of one element as a default ({1}) equals any list of such elements, and an option that is a
// number holds for a list when the options cover every element.
bool allowed(const Attribute& value, bool is_default, const std::vector<Attribute>& options) {
  std::vector<double> have;
  if (!numbers_of(value, have)) {
    const auto* word = std::get_if<std::string>(&value);
    return word && std::any_of(options.begin(), options.end(), [&](const Attribute& o) {
      const auto* w = std::get_if<std::string>(&o);
      return w && *w == *word;
    });
  }
  std::vector<double> scalars, want;
  for (const auto& option : options) {
    if (!numbers_of(option, want)) continue;
    if (!is_list(option)) { scalars.push_back(want[0]); continue; }
    if (want == have) return true;
    if (is_default && have.size() == 1 && std::all_of(want.begin(), want.end(), [&](double w) { return w == have[0]; })) return true;
  }
  return !have.empty() && std::all_of(have.begin(), have.end(), [&](double h) { return std::find(scalars.begin(), scalars.end(), h) != scalars.end(); });
}

std::string options_text(const std::vector<Attribute>& options) {
  std::string out;
  for (const auto& o : options) out += (out.empty() ? "" : ", ") + text_of(o);
  return out;
}

// The kernel of a convolution that does not state it is its weight's.
std::optional<Attribute> from_weight(const Graph& graph, const Node& node, const std::string& attribute) {
  if (attribute != "kernel_shape" || (node.op != "Conv" && node.op != "ConvTranspose")) return {};
  if (node.inputs.size() < 2 || node.inputs[1] == no_value) return {};
  const auto& shape = graph.value(node.inputs[1]).shape;
  if (!shape || shape->size() < 3) return {};
  return Attribute(std::vector<int64_t>(shape->begin() + 2, shape->end()));
}

bool is_depthwise(const Graph& graph, const Node& node) {
  if (node.inputs.size() < 2 || node.inputs[1] == no_value) return false;
  const auto& shape = graph.value(node.inputs[1]).shape;
  const int64_t group = node.integer("group", 1);
  return shape && shape->size() >= 3 && group > 1 && (node.op == "Conv" ? (*shape)[1] == 1 : (*shape)[0] == group && (*shape)[1] == 1);
}

}  // namespace

bool attributes_hold(const Graph& graph, const Node& node, const std::map<std::string, AttributeLimit>& limits, std::string* why) {
  for (const auto& [name, limit] : limits) {
    const auto it = node.attributes.find(name);
    std::optional<Attribute> value;
    const bool stated = it != node.attributes.end();
    if (stated) value = it->second;
    else if (!(value = from_weight(graph, node, name))) value = attribute_default(node.op, node.since_version, name);
    if (!value) {
      *why = fmt::format("{} is not stated and has no default", name);
      return false;
    }
    const bool wants_depthwise = std::any_of(limit.one_of.begin(), limit.one_of.end(), [](const Attribute& a) {
      const auto* s = std::get_if<std::string>(&a);
      return s && *s == "depthwise";
    });
    const bool depthwise = name == "group" && wants_depthwise && is_depthwise(graph, node);
    if (!limit.one_of.empty() && !depthwise && !allowed(*value, !stated, limit.one_of)) {
      *why = fmt::format("{} {} is not one of {}", name, text_of(*value), options_text(limit.one_of));
      return false;
    }
    if (!limit.min && !limit.max) continue;
    std::vector<double> numbers;
    if (!numbers_of(*value, numbers)) {
      *why = fmt::format("{} {} is not a number", name, text_of(*value));
      return false;
    }
    for (const double n : numbers) {
      if (limit.min && n < *limit.min) { *why = fmt::format("{} {} is below the limit of {}", name, text_of(*value), *limit.min); return false; }
      if (limit.max && n > *limit.max) { *why = fmt::format("{} {} is above the limit of {}", name, text_of(*value), *limit.max); return false; }
    }
  }
  return true;
}

std::vector<std::string> roles_of(const Node& node) { return roles_of_op(node.domain, node.op, node.inputs.size()); }

namespace {

// The number of checks that held; `why` is set at the first that did not.
int try_match(const OpMatch& m, const Graph& graph, const Node& node, const std::vector<std::string>& roles, std::string* why) {
  int passed = 0;
  if (!m.since_versions.empty() && std::find(m.since_versions.begin(), m.since_versions.end(), node.since_version) == m.since_versions.end()) {
    *why = fmt::format("version {} of the operator is not among {}", node.since_version, fmt::join(m.since_versions, ", "));
    return passed;
  }
  ++passed;
  const auto value_of = [&](const std::string& role) {
    for (size_t i = 0; i < roles.size(); ++i) if (roles[i] == role) return node.inputs[i];
    return no_value;
  };
  // "in*" stands for every variadic input.
  const auto each = [&](const std::string& role, auto&& test) {
    if (role != "in*") return test(role, value_of(role));
    for (size_t i = 0; i < roles.size(); ++i) if (!test(roles[i], node.inputs[i])) return false;
    return true;
  };
  for (const auto& role : m.constant) {
    if (!each(role, [&](const std::string& r, ValueId v) {
          if (v == no_value || graph.value(v).is_constant()) return true;
          *why = fmt::format("{} is not constant", r);
          return false;
        })) return passed;
    ++passed;
  }
  for (const auto& role : m.variable) {
    if (!each(role, [&](const std::string& r, ValueId v) {
          if (v != no_value && !graph.value(v).is_constant()) return true;
          *why = fmt::format("{} is {}", r, v == no_value ? "absent" : "constant");
          return false;
        })) return passed;
    ++passed;
  }
  for (const auto& role : m.absent) {
    if (!each(role, [&](const std::string& r, ValueId v) {
          if (v == no_value) return true;
          *why = fmt::format("{} is present", r);
          return false;
        })) return passed;
    ++passed;
  }
  for (const auto& [role, ranks] : m.ranks) {
    const auto& legal = ranks;
    if (!each(role, [&](const std::string& r, ValueId v) {
          if (v == no_value) return true;
          const auto& shape = graph.value(v).shape;
          if (!shape) { *why = fmt::format("the rank of {} is not known", r); return false; }
          if (std::find(legal.begin(), legal.end(), static_cast<int64_t>(shape->size())) != legal.end()) return true;
          *why = fmt::format("{} has rank {}, not {}", r, shape->size(), fmt::join(legal, " or "));
          return false;
        })) return passed;
    ++passed;
  }
  for (const auto& [name, limit] : m.attributes) {
    if (!attributes_hold(graph, node, {{name, limit}}, why)) return passed;
    ++passed;
  }
  why->clear();
  return passed;
}

}  // namespace

const OpRule* match_op(const Rules& rules, const Graph& graph, const Node& node, std::string* why) {
  const auto roles = roles_of(node);
  int nearest = -1;
  std::string reason, text;
  for (const auto& rule : rules.ops) {
    if (rule.match.op != node.op || rule.match.domain != node.domain) continue;
    const int passed = try_match(rule.match, graph, node, roles, &text);
    if (text.empty()) return &rule;
    if (passed > nearest) { nearest = passed; reason = text; }
  }
  if (why) {
    const std::string name = node.domain.empty() ? node.op : node.domain + "." + node.op;
    *why = nearest < 0 ? fmt::format("{} has no rule in '{}'", name, rules.id) : fmt::format("{}: {}", name, reason);
  }
  return nullptr;
}

}  // namespace quern
