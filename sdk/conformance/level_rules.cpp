// L1: the rules as text, as data, and as an answer that never changes.
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <thread>

#include "core/base/error.hpp"
#include "core/plugin/host.hpp"
#include "sdk/conformance/cases.hpp"

namespace quern::conform {
namespace {

Outcome failed(std::string text) { return {Verdict::fail, std::move(text), ""}; }

std::string described(const quern_target& t) {
  quern_str text{};
  quern_status* status = t.describe(t.self, &text);
  throw_if_failed(status, "the plugin", "its rules");
  return text_of(text);
}

Outcome same_text(const Subject& s) {
  const std::string first = described(s.table());
  for (int i = 0; i < 100; ++i)
    if (described(s.table()) != first) return failed(fmt::format("call {} of describe gives another text than the first", i + 2));
  std::vector<std::string> results(8);
  std::vector<std::thread> threads;
  for (auto& r : results) threads.emplace_back([&r, &s] { for (int i = 0; i < 20; ++i) r = described(s.table()); });
  for (auto& t : threads) t.join();
  for (const auto& r : results)
    if (r != first) return failed("describe gives another text when several threads ask at once");
  return {};
}

Outcome same_rules(const Bench& b) {
  const std::string text = described(b.subject.table());
  const Rules a = parse_rules(text, b.subject.path.filename().string(), b.profile), again = parse_rules(text, b.subject.path.filename().string(), b.profile);
  if (a.digest != again.digest || a.digest != b.rules->digest) return failed("the digest of its rules changes from call to call");
  if (a.id != b.subject.manifest.id) return failed(fmt::format("its rules have the id '{}', its manifest '{}'", a.id, b.subject.manifest.id));
  if (parse_rules(to_text(a.effective), "the effective rules", a.profile).digest != a.digest) return failed("its effective rules don't read back to the same rules");
  return {};
}

// Two configs of one entry that allow the same types can't be told apart: which contract holds is then a matter of order.
Outcome clear_configs(const Bench& b) {
  std::set<std::pair<int, std::string>> ids;
  for (const OpRule& rule : b.rules->ops) {
    if (rule.configs.empty()) return failed(fmt::format("entry {} of ops has no config", rule.entry));
    for (size_t i = 0; i < rule.configs.size(); ++i)
      for (size_t j = i + 1; j < rule.configs.size(); ++j) {
        const OpConfig &x = rule.configs[i], &y = rule.configs[j];
        if (x.inputs == y.inputs && x.output == y.output && x.contract != y.contract)
          return failed(fmt::format("configs '{}' and '{}' of {} allow the same types under different contracts", x.id, y.id, rule.match.op));
      }
  }
  for (const std::string& op : b.rules->passthrough) {
    for (const OpRule& rule : b.rules->ops) {
      if (rule.match.op != op) continue;
      bool any = false;
      for (const OpConfig& c : rule.configs)
        for (const auto& [role, types] : c.inputs)
          for (const auto& t : types) any = any || std::find(c.output.begin(), c.output.end(), t) != c.output.end();
      if (!any) return failed(fmt::format("{} passes quantizers through, and none of its configs has a type that goes in and comes out", op));
    }
  }
  return {};
}

Outcome profile_answers(const Bench& b) {
  std::string reason;
  const bool first = b.target().available(b.profile, &reason);
  for (int i = 0; i < 20; ++i)
    if (b.target().available(b.profile, &reason) != first) return failed(fmt::format("`available` changes its mind about profile '{}'", b.profile));
  const auto& t = b.subject.table();
  static constexpr char nonsense[] = "a-profile-that-nobody-has";
  int32_t yes = 0;
  auto sink = abi_struct<quern_text_sink>();
  reason.clear();
  sink.self = &reason;
  sink.write = [](void* self, quern_str text) { *static_cast<std::string*>(self) += text_of(text); };
  quern_status* status = t.available(t.self, {nonsense, sizeof nonsense - 1}, &yes, &sink);
  const quern_host* host = host_table(b.subject.manifest.id);
  if (!status) return yes ? failed("`available` says yes to a profile that its rules don't have") : Outcome{};
  const std::string text = text_of(host->status_message(host->self, status));
  host->release_status(host->self, status);
  return text.empty() && reason.empty() ? failed("`available` refuses an unknown profile without a word") : Outcome{};
}

}  // namespace

void rules_cases(const Bench& bench, std::vector<Case>& out) {
  const auto add = [&](const char* name, auto&& check) {
    out.push_back({fmt::format("L1/{}/{}", bench.profile, name), [bench, check](const Source&) {
                     try {
                       return check(bench);
                     } catch (const Error& e) {
                       return failed(e.what());
                     }
                   }});
  };
  add("same-text", [](const Bench& b) { return same_text(b.subject); });
  add("same-rules", same_rules);
  add("configs", clear_configs);
  add("profile", profile_answers);
}

}  // namespace quern::conform
