#include "sdk/conformance/variant.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <set>

namespace quern::conform {
namespace {

bool has(const std::vector<std::string>& list, const std::string& word) { return std::find(list.begin(), list.end(), word) != list.end(); }

// The ways through the steps after the first.
std::vector<std::vector<Step>> ways_through(const FusePattern& pattern) {
  std::vector<std::vector<Step>> ways;
  const auto& steps = pattern.steps;
  const auto way = [&](auto&& wanted) {
    std::vector<Step> out;
    for (size_t i = 1; i < steps.size(); ++i) {
      const std::string op = wanted(i);
      if (!op.empty()) out.push_back({&steps[i], op});
    }
    return out;
  };
  const auto required = [&](size_t i) { return steps[i].optional ? std::string() : steps[i].ops.front(); };
  for (size_t taken = 1; taken < steps.size(); ++taken)
    for (const std::string& op : steps[taken].ops) ways.push_back(way([&](size_t i) { return i == taken ? op : required(i); }));
  ways.push_back(way([&](size_t i) { return steps[i].ops.front(); }));
  return ways;
}

std::vector<std::pair<std::string, std::vector<std::string>>> type_lists(const Variant& v) {
  std::vector<std::pair<std::string, std::vector<std::string>>> lists;
  for (const auto& [role, types] : v.config->inputs)
    if (role != "bias") lists.emplace_back(role, types);
  for (const Step& step : v.steps)
    if (!step.rule->other.empty() && step.rule->other != "bias") {
      std::vector<std::string> types = step.rule->types;
      if (const auto own = v.config->inputs.find(step.rule->other); own != v.config->inputs.end())
        std::erase_if(types, [&](const std::string& t) { return !has(own->second, t); });
      std::erase_if(lists, [&](const auto& l) { return l.first == step.rule->other; });
      lists.emplace_back(step.rule->other, types);
    }
  std::vector<std::string> output = v.config->output;
  if (v.pattern && !v.pattern->output.empty()) std::erase_if(output, [&](const std::string& t) { return !has(v.pattern->output, t); });
  lists.emplace_back("output", output);
  return lists;
}

}  // namespace

std::string Variant::name() const {
  std::string text = fmt::format("op{}.{}/{}/", rule->entry, rule->match.op, config->id);
  if (!pattern) return text + "-";
  text += pattern->name;
  for (const Step& s : steps) text += "." + (s.rule->other.empty() ? s.op : s.op + "_" + s.rule->other);
  return text;
}

std::vector<Variant> variants_of(const Rules& rules) {
  std::vector<Variant> out;
  std::set<std::string> seen;
  const auto add = [&](Variant v) {
    if (seen.insert(v.name()).second && type_combinations(v) > 0) out.push_back(std::move(v));
  };
  for (const OpRule& rule : rules.ops)
    for (const OpConfig& config : rule.configs) {
      add({&rule, &config, nullptr, {}});
      for (const FusePattern& pattern : rules.fuse) {
        if (!has(pattern.steps.front().ops, rule.match.op)) continue;
        for (auto& way : ways_through(pattern)) {
          if (way.empty()) continue;
          const bool takes_bias = config.inputs.count("bias") != 0;
          if (!takes_bias && std::any_of(way.begin(), way.end(), [](const Step& s) { return s.rule->other == "bias"; })) continue;
          add({&rule, &config, &pattern, std::move(way)});
        }
      }
    }
  return out;
}

int64_t type_combinations(const Variant& variant) {
  int64_t n = 1;
  for (const auto& [role, types] : type_lists(variant)) n *= static_cast<int64_t>(types.size());
  return n;
}

TypeChoice types_for(const Variant& variant, int64_t index) {
  const int64_t total = std::max<int64_t>(1, type_combinations(variant));
  // A step that shares no factor with the total visits all of them; about two thirds of it jumps in every digit.
  int64_t stride = std::max<int64_t>(1, total * 2 / 3);
  while (std::gcd(stride, total) != 1) ++stride;
  int64_t at = index % total * stride % total;
  TypeChoice out;
  for (const auto& [role, types] : type_lists(variant)) {
    const auto n = static_cast<int64_t>(types.size());
    if (n > 0) out.by_role.emplace_back(role, types[static_cast<size_t>(at % n)]);
    at /= std::max<int64_t>(1, n);
  }
  return out;
}

const std::string* TypeChoice::find(const std::string& role) const {
  const bool numbered = role.size() > 2 && role.compare(0, 2, "in") == 0 && role[2] >= '0' && role[2] <= '9';
  for (const auto& [name, type] : by_role)
    if (name == role || (name == "in*" && numbered)) return &type;
  return nullptr;
}

std::string Beyond::text() const {
  if (attribute.empty()) return fmt::format("{} of rank {}", role, rank);
  if (const auto* i = std::get_if<int64_t>(&value)) return fmt::format("{} {}", attribute, *i);
  if (const auto* f = std::get_if<float>(&value)) return fmt::format("{} {}", attribute, *f);
  return fmt::format("{} {}", attribute, std::get<std::string>(value));
}

std::vector<Beyond> beyond_limits(const OpRule& rule) {
  std::vector<Beyond> out;
  for (const auto& [name, limit] : rule.match.attributes) {
    const bool real = name == "alpha" || name == "beta" || name == "gamma" || name == "epsilon";
    const auto number = [&](double v) { return real ? Attribute(static_cast<float>(v)) : Attribute(static_cast<int64_t>(v)); };
    if (limit.max) out.push_back({name, "", number(*limit.max + 1), 0});
    if (limit.min) out.push_back({name, "", number(*limit.min - 1), 0});
    std::set<std::string> words;
    std::set<int64_t> numbers;
    for (const Attribute& a : limit.one_of) {
      if (const auto* s = std::get_if<std::string>(&a)) words.insert(*s);
      if (const auto* i = std::get_if<int64_t>(&a)) numbers.insert(*i);
      if (const auto* list = std::get_if<std::vector<int64_t>>(&a)) numbers.insert(list->begin(), list->end());
    }
    if (!numbers.empty() && !words.count("depthwise"))
      for (const int64_t v : {int64_t{0}, *numbers.rbegin() + 1})
        if (!numbers.count(v) && !(v == 0 && (name == "strides" || name == "dilations" || name == "group" || name == "kernel_shape")))
          out.push_back({name, "", Attribute(v), 0});
    if (!words.empty() && name != "group")
      for (const char* word : {"linear", "cubic", "SAME_UPPER", "VALID", "reflect", "CRD", "align_corners", "tanh"})
        if (!words.count(word)) out.push_back({name, "", Attribute(std::string(word)), 0});
  }
  for (const auto& [role, ranks] : rule.match.ranks)
    for (const int64_t r : {*std::min_element(ranks.begin(), ranks.end()) - 1, *std::max_element(ranks.begin(), ranks.end()) + 1})
      if (r > 0 && r <= 6 && std::find(ranks.begin(), ranks.end(), r) == ranks.end()) out.push_back({"", role, int64_t{0}, r});
  return out;
}

}  // namespace quern::conform
