// A user's restriction of the rules: filters and orders the legal types, and never adds one.
#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.hpp"
#include "core/rules/rules.hpp"

namespace quern {

bool glob_match(std::string_view pattern, std::string_view text) {
  size_t p = 0, t = 0, star = std::string_view::npos, mark = 0;
  while (t < text.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || (pattern[p] != '*' && pattern[p] == text[t]))) { ++p; ++t; }
    else if (p < pattern.size() && pattern[p] == '*') { star = p++; mark = t; }
    else if (star != std::string_view::npos) { p = star + 1; t = ++mark; }
    else return false;
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

const Preset* chosen_preset(const Rules& rules, const Narrowing& narrowing) {
  if (!narrowing.preset.empty()) {
    const auto it = rules.presets.find(narrowing.preset);
    if (it != rules.presets.end()) return &it->second;
    std::vector<std::string> names;
    for (const auto& [name, p] : rules.presets) { (void)p; names.push_back(name); }
    throw Error(ErrorCode::config, names.empty()
                    ? fmt::format("preset '{}': the target '{}' has no presets", narrowing.preset, rules.id)
                    : fmt::format("the target '{}' has no preset '{}'{}; presets: {}", rules.id, narrowing.preset,
                                  did_you_mean(narrowing.preset, names), list_of(names)));
  }
  for (const char* name : {"mixed", "performance"}) {
    if (const auto it = rules.presets.find(name); it != rules.presets.end()) return &it->second;
  }
  return nullptr;
}

bool entry_applies(const Narrowing::Entry& entry, const std::string& node_name, const std::string& op) {
  return (entry.nodes.empty() || glob_match(entry.nodes, node_name)) && (entry.op.empty() || entry.op == op);
}

std::string describe_type(const TypeRule& t) {
  if (t.is_float()) return t.name + " (float)";
  const char* granularity = t.granularity == GranularityRule::tensor ? "per tensor" : t.granularity == GranularityRule::channel ? "per channel" : "per block";
  return fmt::format("{} ({} bits, {}, {}, {})", t.name, t.format.bits, t.format.is_signed ? "signed" : "unsigned",
                     t.symmetric() ? "symmetric" : "asymmetric", granularity);
}

std::vector<std::string> narrow(const Rules& rules, const std::vector<std::string>& names, bool weight, const Narrowing& narrowing,
                                const std::string& node_name, const std::string& op) {
  std::vector<std::string> left;
  std::string asked;
  for (const auto& name : names) {
    const TypeRule& t = rules.type(name);
    bool keep = true;
    for (const auto& e : weight ? narrowing.weights : narrowing.activations) {
      if (!entry_applies(e, node_name, op) || t.is_float()) continue;
      if (e.bits && *e.bits != t.format.bits) keep = false;
      if (e.symmetric && *e.symmetric != t.symmetric()) keep = false;
      if (e.per_channel && *e.per_channel != (t.granularity == GranularityRule::channel)) keep = false;
    }
    if (keep) left.push_back(name);
  }
  const bool had_integers = std::any_of(names.begin(), names.end(), [&](const auto& n) { return !rules.type(n).is_float(); });
  const bool has_integers = std::any_of(left.begin(), left.end(), [&](const auto& n) { return !rules.type(n).is_float(); });
  if (had_integers && !has_integers) {
    for (const auto& e : weight ? narrowing.weights : narrowing.activations) {
      if (!entry_applies(e, node_name, op)) continue;
      const auto add = [&](const std::string& text) { asked += (asked.empty() ? "" : ", ") + text; };
      if (e.bits) add(fmt::format("{} bits", *e.bits));
      if (e.symmetric) add(*e.symmetric ? "symmetric" : "asymmetric");
      if (e.per_channel) add(*e.per_channel ? "per channel" : "per tensor");
    }
    std::vector<std::string> legal;
    for (const auto& n : names) legal.push_back(describe_type(rules.type(n)));
    throw Error(ErrorCode::config, fmt::format("{} of {} are asked to be {}, which '{}' can't run; it allows {}",
                                               weight ? "weights" : "activations", op, asked, rules.id, list_of(legal)))
        .at_node(node_name);
  }
  // A preset orders: what it prefers comes first, the rest stays legal so that consumers can agree.
  if (const Preset* preset = chosen_preset(rules, narrowing)) {
    const bool symmetric = weight ? preset->symmetric_weights : preset->symmetric_activations;
    std::stable_partition(left.begin(), left.end(), [&](const auto& n) { return rules.type(n).symmetric() == symmetric; });
  }
  return left;
}

}  // namespace quern
