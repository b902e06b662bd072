// The cases of every level. A case is found again by its id and the seed alone:
//
//   L3/avx2/op0.Conv/conv/dot_bias.Add_bias/2      level / profile / operator entry / config / pattern / number
#pragma once
#include <functional>

#include "core/plugin/library.hpp"
#include "sdk/conformance/execute.hpp"

namespace quern::conform {

// The plugin as a worker has it.
struct Subject {
  fs::path path;
  Manifest manifest;
  std::shared_ptr<const Target> target;
  const LoadedPlugin* plugin = nullptr;  // the table itself
  uint64_t seed = 1;
  const quern_target& table() const { return plugin->target; }
};
Subject load_subject(const fs::path& path, uint64_t seed);

struct Bench { const Subject& subject; std::string profile; std::shared_ptr<const Rules> rules; const Target& target() const { return *subject.target; } };

struct Case {
  std::string id;
  std::function<Outcome(const Source&)> run;  // the source is the case's own
};

// Levels, in words.
inline constexpr int levels = 7;
std::string level_name(int level);  // "load", "rules", ...

// L0: each in a process of its own, before anything of the plugin is loaded. "" : pass.
std::vector<std::string> load_checks();
std::string run_load_check(const std::string& name, const fs::path& path);
size_t output_written();  // bytes that this process has written to standard output and error so far

void rules_cases(const Bench& bench, std::vector<Case>& out);
void arithmetic_cases(const Bench& bench, std::vector<Case>& out);
void operator_cases(const Bench& bench, std::vector<Case>& out);
void robustness_cases(const Bench& bench, std::vector<Case>& out);
void determinism_cases(const Bench& bench, std::vector<Case>& out);
void network_cases(const Bench& bench, std::vector<Case>& out);

// Sums of so many products that they leave the accumulator of a dot contract, or pass the places where it saturates: the lengths that
// are worth it, and a unit of such a length with weights and inputs at the ends of their ranges.
std::vector<int64_t> long_depths(const Bench& bench, const Variant& variant, int64_t index);
std::optional<Trial> long_trial(const Bench& bench, const Variant& variant, int64_t index, int64_t depth, Source& source, std::string* why);

// Profiles to test: the one asked for, else all that can run here. `left_out`: the others, with the reason.
std::vector<std::string> profiles_of(const Subject& subject, const std::string& asked, std::vector<std::string>* left_out);
std::vector<Case> cases_of(const Subject& subject, const std::vector<std::string>& profiles, int level);

// Variants of which no two have the same operator, contract and way through a pattern: enough where the kernel matters, not the entry.
std::vector<Variant> distinct_kernels(const Rules& rules, bool with_patterns);

}  // namespace quern::conform
