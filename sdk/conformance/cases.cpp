#include "sdk/conformance/cases.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <thread>

#include "core/base/error.hpp"
#include "core/plugin/target.hpp"

namespace quern::conform {

std::string level_name(int level) {
  static const char* const names[levels] = {"load", "rules", "arithmetic", "operators", "robustness", "determinism", "networks"};
  return names[level];
}

Subject load_subject(const fs::path& path, uint64_t seed) {
  Subject s;
  s.path = path;
  s.seed = seed;
  s.manifest = inspect_plugin(path);
  if (s.manifest.kind != "target")
    throw Error(ErrorCode::plugin, fmt::format("plugin {} is of kind {}; beyond loading, the kit tests targets", s.manifest.id, s.manifest.kind)).at_file(path);
  watch_host(s.manifest.id);
  // Not through the registry: that would try it first, and put it into quarantine when it fails.
  s.plugin = &load_plugin(path, s.manifest);
  s.target = make_target(*s.plugin, s.manifest);
  return s;
}

std::vector<std::string> profiles_of(const Subject& subject, const std::string& asked, std::vector<std::string>* left_out) {
  std::vector<std::string> out;
  const Rules rules = subject.target->rules(asked);
  std::vector<std::string> names;
  if (!asked.empty()) names = {asked};
  else for (const Profile& p : rules.profiles) names.push_back(p.name);
  if (names.empty()) names = {rules.profile};
  for (const std::string& name : names) {
    std::string reason;
    if (subject.target->available(name, &reason)) out.push_back(name);
    else if (left_out) left_out->push_back(fmt::format("profile '{}' can't run here: {}", name, reason.empty() ? "no reason given" : reason));
  }
  return out;
}

std::vector<Variant> distinct_kernels(const Rules& rules, bool with_patterns) {
  std::vector<Variant> out;
  std::set<std::string> seen;
  for (Variant& v : variants_of(rules)) {
    if (v.pattern && !with_patterns) continue;
    const std::string way = v.name().substr(v.name().rfind('/'));
    if (seen.insert(v.rule->match.op + "|" + v.config->contract + way).second) out.push_back(std::move(v));
  }
  return out;
}

std::vector<Case> cases_of(const Subject& subject, const std::vector<std::string>& profiles, int level) {
  std::vector<Case> out;
  for (const std::string& profile : profiles) {
    const Bench bench{subject, profile, std::make_shared<const Rules>(subject.target->rules(profile))};
    switch (level) {
      case 1: rules_cases(bench, out); break;
      case 2: arithmetic_cases(bench, out); break;
      case 3: operator_cases(bench, out); break;
      case 4: robustness_cases(bench, out); break;
      case 5: determinism_cases(bench, out); break;
      case 6: network_cases(bench, out); break;
      default: break;
    }
  }
  return out;
}

}  // namespace quern::conform
