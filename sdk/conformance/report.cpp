#include "sdk/conformance/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "sdk/conformance/cases.hpp"

namespace quern::conform {
namespace {

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '&') out += "&amp;";
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '"') out += "&quot;";
    else out += static_cast<unsigned char>(c) < ' ' ? ' ' : c;
  }
  return out;
}

}  // namespace

int64_t LevelResult::count(const char* verdict) const {
  return std::count_if(results.begin(), results.end(), [&](const Result& r) { return r.verdict == verdict; });
}
int64_t Report::failures() const {
  int64_t n = 0;
  for (const auto& l : levels) n += l.count("fail");
  return n;
}
bool Report::approximate() const {
  return std::any_of(levels.begin(), levels.end(), [](const LevelResult& l) { return l.count("approximate") > 0; });
}
std::string Report::badge() const {
  if (failures() > 0 || levels.empty()) return "";
  return fmt::format("{}, quern-conform {}, levels {}-{}", approximate() ? "approximate" : "hardware-true", kit_version, levels.front().level, levels.back().level);
}
std::string Report::reproduce(const std::string& case_id) const {
  return fmt::format("quern-conform '{}' --seed {} --case '{}'", path, seed, case_id);
}

std::string level_line(const LevelResult& l) {
  const int64_t failed = l.count("fail");
  std::string out = fmt::format("L{} {:<12} {:>6} cases  {}", l.level, level_name(l.level), l.results.size(), failed == 0 ? "ok" : fmt::format("{} FAILED", failed));
  if (const int64_t n = l.count("refused")) out += fmt::format(", {} refused with a reason", n);
  if (const int64_t n = l.count("skipped")) out += fmt::format(", {} not drawn", n);
  if (const int64_t n = l.count("approximate")) out += fmt::format(", {} approximate", n);
  if (l.cut) out += ", ended early";
  return out + fmt::format("  ({:.1f} s)\n", l.seconds);
}

std::string finding_lines(const Report& report, const Result& r) {
  return fmt::format("FAIL {}\n  {}\n{}  reproduce: {}\n", r.id, r.text, r.unit.empty() ? "" : "  unit: " + r.unit + "\n", report.reproduce(r.id));
}

std::string summary(const Report& report) {
  int64_t cases = 0;
  std::string out;
  for (const auto& l : report.levels) cases += static_cast<int64_t>(l.results.size());
  for (const auto& text : report.left_out) out += "not tested: " + text + "\n";
  const int64_t failed = report.failures();
  if (failed > 0) {
    int first = -1;
    for (const auto& l : report.levels)
      if (first < 0 && l.count("fail") > 0) first = l.level;
    return out + fmt::format("does not conform: {} of {} cases failed, first at L{} ({})\n", failed, cases, first, level_name(first));
  }
  return out + fmt::format("conforms: {} cases; badge: {}\n", cases, report.badge());
}

json::value to_json(const Report& report) {
  json::array list, findings, left_out;
  for (const auto& l : report.levels) {
    json::object reasons;  // why units were refused or not drawn, and how often
    for (const Result& r : l.results) {
      if (r.verdict == "fail")
        findings.push_back(json::object{{"id", r.id}, {"level", l.level}, {"text", r.text}, {"unit", r.unit}, {"reproduce", report.reproduce(r.id)}});
      if (r.verdict != "refused" && r.verdict != "skipped") continue;
      json::value& n = reasons[fmt::format("{}: {}", r.verdict, r.text)];
      n = n.is_int64() ? n.as_int64() + 1 : 1;
    }
    json::object one{{"level", l.level}, {"name", level_name(l.level)}, {"cases", static_cast<int64_t>(l.results.size())}, {"ended_early", l.cut}, {"seconds", l.seconds}};
    for (const char* verdict : {"pass", "fail", "refused", "skipped", "approximate"}) one[verdict] = l.count(verdict);
    one["reasons"] = reasons;
    list.push_back(one);
  }
  for (const auto& text : report.left_out) left_out.push_back(json::value(text));
  return json::object{{"quern_conform", kit_version}, {"plugin", report.path}, {"id", report.id}, {"version", report.version}, {"target", report.target},
                      {"seed", report.seed}, {"profiles", report.profiles}, {"not_tested", left_out}, {"levels", list}, {"findings", findings},
                      {"conforms", report.failures() == 0 && !report.levels.empty()}, {"badge", report.badge()}};
}

std::string to_junit(const Report& report) {
  // A test case per group of cases (all numbers of one variant), a failure per failing case.
  std::string out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"quern-conform\">\n";
  for (const auto& l : report.levels) {
    std::map<std::string, std::vector<const Result*>> groups;
    for (const Result& r : l.results) groups[r.id.substr(0, r.id.rfind('/'))].push_back(&r);
    int64_t failed = 0;
    std::string body;
    for (const auto& [name, results] : groups) {
      double seconds = 0;
      std::string failures;
      bool skipped = true;
      for (const Result* r : results) {
        seconds += r->seconds;
        skipped = skipped && r->verdict == "skipped";
        if (r->verdict == "fail") failures += fmt::format("{}: {}\n{}\n", r->id, r->text, report.reproduce(r->id));
      }
      failed += failures.empty() ? 0 : 1;
      body += fmt::format("    <testcase classname=\"{}\" name=\"{}\" time=\"{:.3f}\">", escaped(report.id), escaped(name), seconds);
      if (!failures.empty()) body += fmt::format("<failure message=\"does not conform\">{}</failure>", escaped(failures));
      else if (skipped) body += fmt::format("<skipped message=\"{}\"/>", escaped(results.front()->text));
      body += "</testcase>\n";
    }
    out += fmt::format("  <testsuite name=\"L{} {}\" tests=\"{}\" failures=\"{}\" time=\"{:.3f}\">\n{}  </testsuite>\n", l.level, level_name(l.level), groups.size(), failed, l.seconds, body);
  }
  return out + "</testsuites>\n";
}

}  // namespace quern::conform
