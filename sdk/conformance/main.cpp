// quern-conform: is a plugin what it says it is? docs/conformance.md describes levels and output.
//
//   quern-conform my_npu.so                       all levels, all profiles that can run here
//   quern-conform my_npu.so --level 0-2 --json report.json --junit report.xml
//   quern-conform my_npu.so --seed 1 --case 'L3/v1/op0.Conv/conv/-/4'
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>

#include "core/base/error.hpp"
#include "core/base/parallel.hpp"
#include "sdk/conformance/cases.hpp"
#include "sdk/conformance/report.hpp"
#include "sdk/conformance/supervisor.hpp"

namespace {

using namespace quern;
using namespace quern::conform;

extern "C" void on_signal(int) {
  if (cancel_requested()) _exit(static_cast<int>(ErrorCode::interrupted));
  request_cancel();
}

struct Arguments {
  std::string plugin, profile, levels = "0-6", json, junit, only;
  uint64_t seed = 1;
  double deadline = 60;
  bool worker = false, first = false, all = false, quiet = false;
};

constexpr int64_t failures_a_level = 25;

double seconds_since(std::chrono::steady_clock::time_point begin) { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); }

class Conductor {
 public:
  explicit Conductor(const Arguments& a) : a_(a), worker_{fs::absolute(a.plugin), a.profile, a.seed, 3} {
    report_.path = a.plugin;
    report_.seed = a.seed;
  }

  // One level; false: nothing can come after it.
  bool level(int number) {
    LevelResult l;
    l.level = number;
    const auto begin = std::chrono::steady_clock::now();
    const bool go_on = number == 0 ? load_level(l) : other_level(l);
    l.seconds = seconds_since(begin);
    if (!a_.quiet) {
      std::fputs(level_line(l).c_str(), stdout);
      int shown = 0;
      for (const Result& r : l.results)
        if (r.verdict == "fail" && ++shown <= 8) std::fputs(finding_lines(report_, r).c_str(), stdout);
      if (shown > 8) std::fputs(fmt::format("... and {} more\n", shown - 8).c_str(), stdout);
      std::fflush(stdout);
    }
    const bool failed = l.count("fail") > 0;
    report_.levels.push_back(std::move(l));
    return go_on && !(failed && a_.first);
  }

  void single(const std::string& id) {
    LevelResult l;
    l.level = id.size() > 1 && id[0] == 'L' ? id[1] - '0' : -1;
    if (l.level < 0 || l.level >= levels) throw Error(ErrorCode::usage, fmt::format("'{}' is no case", id)).hint("cases look like L3/PROFILE/op0.Conv/CONFIG/-/4");
    const size_t from = id.find('/'), to = id.find('/', from + 1);
    if (l.level > 0 && a_.profile.empty() && to != std::string::npos) worker_.profile = id.substr(from + 1, to - from - 1);
    Supervisor s(worker_, a_.deadline);
    record(l, id, s.ask(id));
    if (l.results.front().verdict == "unknown") throw Error(ErrorCode::usage, fmt::format("{}: {}", id, l.results.front().text));
    const Result& r = l.results.front();
    std::fputs(fmt::format("{}: {}{}{}\n{}", r.id, r.verdict, r.text.empty() ? "" : ": ", r.text, r.unit.empty() ? "" : "  unit: " + r.unit + "\n").c_str(), stdout);
    report_.levels.push_back(std::move(l));
  }

  const Report& report() const { return report_; }

 private:
  void record(LevelResult& l, const std::string& id, const json::object& answer, double seconds = 0) {
    Result r{id, "fail", "", "", seconds};
    if (const auto* died = answer.if_contains("died")) {
      r.text = died->as_string().c_str();
    } else {
      r.verdict = answer.at("verdict").as_string().c_str();
      r.text = answer.at("text").as_string().c_str();
      r.unit = answer.at("unit").as_string().c_str();
    }
    l.results.push_back(std::move(r));
  }

  bool load_level(LevelResult& l) {
    for (const auto& name : load_checks()) {
      Supervisor s(worker_, a_.deadline);
      const std::string id = "L0/" + name;
      auto answer = s.ask(id);
      if (!answer.contains("died") && answer.at("verdict") == "pass")
        if (const std::string wrong = s.finish(); !wrong.empty()) answer = {{"died", wrong}};
      record(l, id, answer);
      if (name == "file" && l.count("fail") > 0) return false;  // it may not be loaded at all
    }
    if (l.count("fail") > 0) return false;
    const Manifest manifest = inspect_plugin(worker_.plugin);
    report_.id = manifest.id;
    report_.version = manifest.version;
    return manifest.kind == "target";
  }

  bool other_level(LevelResult& l) {
    auto s = std::make_unique<Supervisor>(worker_, a_.deadline);
    const auto plan = s->ask(fmt::format("plan {}", l.level));
    const std::string id = fmt::format("L{}/plan", l.level);
    if (!plan.contains("plan")) {
      record(l, id, plan);
      return false;
    }
    report_.id = plan.at("id").as_string().c_str();
    report_.version = plan.at("version").as_string().c_str();
    report_.target = plan.at("target").as_string().c_str();
    report_.profiles = plan.at("profiles").as_array();
    report_.left_out.clear();
    for (const auto& text : plan.at("left_out").as_array()) report_.left_out.push_back(text.as_string().c_str());
    for (const auto& one : plan.at("plan").as_array()) {
      const std::string name = one.as_string().c_str();
      const auto begin = std::chrono::steady_clock::now();
      if (!s) s = std::make_unique<Supervisor>(worker_, a_.deadline);
      const auto answer = s->ask(name);
      record(l, name, answer, seconds_since(begin));
      if (answer.contains("died")) s.reset();
      if (!a_.all && l.count("fail") >= failures_a_level) {
        l.cut = true;
        return true;
      }
    }
    if (s)
      if (const std::string wrong = s->finish(); !wrong.empty()) record(l, fmt::format("L{}/end", l.level), {{"died", wrong}});
    return true;
  }

  const Arguments& a_;
  WorkerArguments worker_;
  Report report_;
};

int run(int argc, char** argv) {
  Arguments a;
  CLI::App app("Tests whether a target plugin is what it says it is: the bytes its rules promise, on every shape, in every thread, whatever goes wrong around it.", "quern-conform");
  app.add_option("plugin", a.plugin, "the plugin, a shared object")->required()->type_name("PLUGIN.so");
  app.add_option("--level", a.levels, "levels to run: 3, or 0-4")->type_name("N|A-B");
  app.add_option("--profile", a.profile, "this profile alone (default: all that can run here)")->type_name("P");
  app.add_option("--seed", a.seed, "of shapes, attributes and numbers")->type_name("N");
  app.add_option("--case", a.only, "one case, by the id that a report names")->type_name("ID");
  app.add_option("--json", a.json, "write the report as JSON")->type_name("FILE");
  app.add_option("--junit", a.junit, "write the report as JUnit XML")->type_name("FILE");
  app.add_option("--deadline", a.deadline, "seconds of processor time that a case may use, or pass without using any")->check(CLI::Range(0.1, 86400.0))->type_name("S");
  app.add_flag("--first", a.first, "end after the first level that fails");
  app.add_flag("--all", a.all, fmt::format("go on in a level after {} failures", failures_a_level));
  app.add_flag("--quiet", a.quiet, "the last line alone");
  app.add_flag("--worker", a.worker)->group("");
  app.footer("Exit codes: 0 conforms, 1 a fault of the kit, 2 command line, 7 files, 8 does not conform, 130 interrupted.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);
    throw Error(ErrorCode::usage, e.what()).hint("`quern-conform --help` lists the options");
  }
  if (a.worker) return work({a.plugin, a.profile, a.seed, 3});
  int from = -1, to = -1;
  if (a.levels.size() == 1) from = to = a.levels[0] - '0';
  if (a.levels.size() == 3 && a.levels[1] == '-') from = a.levels[0] - '0', to = a.levels[2] - '0';
  if (from < 0 || to >= levels || from > to) throw Error(ErrorCode::usage, fmt::format("--level {}: levels go from 0 to {}", a.levels, levels - 1));
  if (!fs::exists(a.plugin)) throw Error(ErrorCode::usage, "there is no such file").at_file(a.plugin);
  Conductor c(a);
  if (!a.only.empty()) {
    c.single(a.only);
  } else {
    for (int l = from; l <= to; ++l)
      if (!c.level(l)) break;
    std::fputs(summary(c.report()).c_str(), stdout);
  }
  if (!a.json.empty()) write_file(a.json, to_text(to_json(c.report())) + "\n");
  if (!a.junit.empty()) write_file(a.junit, to_junit(c.report()));
  return c.report().failures() == 0 ? 0 : static_cast<int>(ErrorCode::mismatch);
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return run(argc, argv);
  } catch (const Error& e) {
    std::fprintf(stderr, "quern-conform: %s\n", e.what());
    return static_cast<int>(e.code());
  } catch (const std::exception& e) {
    std::fprintf(stderr, "quern-conform: an unexpected failure: %s\n", e.what());
  }
  return static_cast<int>(ErrorCode::internal);
}
