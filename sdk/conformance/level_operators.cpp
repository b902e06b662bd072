// L3: operators over a sweep of shapes and attributes inside of the rules, and just outside of them. A failing unit is made smaller:
// its choices are repeated, each brought nearer to its simple end, as long as the failure stays.
#include <fmt/format.h>

#include "core/base/error.hpp"
#include "sdk/conformance/cases.hpp"

namespace quern::conform {
namespace {

Outcome try_script(const Bench& b, const Variant& v, const TypeChoice& types, uint64_t seed, const std::vector<int64_t>& script) {
  Source s(seed, script);
  std::string why;
  auto trial = make_trial(*b.rules, v, types, {}, s, &why);
  if (!trial) return {Verdict::skipped, why, ""};
  return prove(b.target(), b.profile, *trial, true);
}

Outcome shrink(const Bench& b, const Variant& v, const TypeChoice& types, const Source& s, Outcome failing) {
  std::vector<int64_t> script, low;
  for (const auto& c : s.taken()) { script.push_back(c.value); low.push_back(c.low); }
  int left = 120;
  for (bool smaller = true; smaller && left > 0;) {
    smaller = false;
    for (size_t i = 0; i < script.size() && left > 0; ++i)
      for (const int64_t value : {low[i], low[i] + (script[i] - low[i]) / 2, script[i] - 1}) {
        if (value >= script[i] || value < low[i] || left-- <= 0) continue;
        auto next = script;
        next[i] = value;
        Outcome o = try_script(b, v, types, s.seed(), next);
        if (o.verdict != Verdict::fail) continue;
        script = std::move(next);
        failing = std::move(o);
        smaller = true;
        break;
      }
  }
  return failing;
}

Outcome sweep(const Bench& b, const Variant& v, int64_t index, Source s) {
  const TypeChoice types = types_for(v, index);
  std::string why;
  auto trial = find_trial(*b.rules, v, types, {}, s, &why);
  if (!trial) return {Verdict::skipped, why, v.name()};
  Outcome o = prove(b.target(), b.profile, *trial, true);
  return o.verdict == Verdict::fail ? shrink(b, v, types, s, std::move(o)) : o;
}

// What the rules exclude has to be refused with a reason, or computed as the contract says.
Outcome outside(const Bench& b, const Variant& v, const Beyond& beyond, Source s) {
  std::string why;
  auto trial = find_trial(*b.rules, v, types_for(v, static_cast<int64_t>(s.seed() % 97)), {Style::sweep, &beyond, 1}, s, &why);
  if (!trial) return {Verdict::skipped, why, v.name()};
  Outcome o = prove(b.target(), b.profile, *trial, false);
  if (o.verdict == Verdict::fail) o.text = fmt::format("{} lies outside of its rules, and it neither refuses nor computes it: {}", beyond.text(), o.text);
  return o;
}

// A config that nothing ever runs in promises what is not there.
Outcome reachable(const Bench& b, const Variant& v, Source s) {
  Outcome last{Verdict::skipped, "", v.name()};
  for (int64_t i = 0; i < 12; ++i) {
    Source one(mixed(s.seed() + static_cast<uint64_t>(i)));
    std::string why;
    auto trial = find_trial(*b.rules, v, types_for(v, i), {}, one, &why);
    if (!trial) {
      if (last.verdict == Verdict::skipped) last.text = why;
      continue;
    }
    if (auto early = derive_tables(b.target(), b.profile, *trial, true)) {
      last = *early;
      if (last.verdict == Verdict::fail) return last;
      continue;
    }
    return {Verdict::pass, "", trial->text()};
  }
  if (last.verdict == Verdict::skipped) return last;
  return {Verdict::fail, fmt::format("its rules have config '{}' for {}, and it refuses every unit of it: {}", v.config->id, v.rule->match.op, last.text), last.unit};
}

}  // namespace

void operator_cases(const Bench& bench, std::vector<Case>& out) {
  for (const Variant& v : variants_of(*bench.rules)) {
    const std::string name = fmt::format("L3/{}/{}", bench.profile, v.name());
    const bool dot = bench.rules->contracts.at(v.config->contract)->form == KernelForm::dot;
    const int count = v.pattern ? 6 : dot ? 40 : 16;
    for (int i = 0; i < count; ++i)
      out.push_back({fmt::format("{}/{}", name, i),
                     [bench, v, i](const Source& s) { return sweep(bench, v, i, s); }});
    if (v.pattern) continue;
    out.push_back({name + "/reach", [bench, v](const Source& s) { return reachable(bench, v, s); }});
    if (v.config != &v.rule->configs.front()) continue;
    int number = 0;
    for (const Beyond& b : beyond_limits(*v.rule))
      out.push_back({fmt::format("{}/beyond{}", name, number++), [bench, v, b](const Source& s) { return outside(bench, v, b, s); }});
  }
}

}  // namespace quern::conform
