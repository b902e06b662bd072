#include "sdk/conformance/worker.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <new>

#include "core/base/error.hpp"
#include "core/base/log.hpp"
#include "core/engine/engine.hpp"
#include "sdk/conformance/cases.hpp"

namespace quern::conform {
namespace {

int answers = 3;

void answer(const json::object& o) {
  const std::string line = to_text(o, false) + "\n";
  for (size_t done = 0; done < line.size();) {
    const ssize_t n = ::write(answers, line.data() + done, line.size() - done);
    if (n <= 0) ::_exit(98);
    done += static_cast<size_t>(n);
  }
}

// Called by the handler of a guard page: nothing here allocates.
void say_last_words(const char* sentence) {
  char line[256] = "{\"last_words\":\"";
  size_t n = 15;
  for (const char* c = sentence; *c && n < sizeof line - 8; ++c)
    if (*c != '"' && *c != '\\' && *c >= ' ') line[n++] = *c;
  line[n++] = '"';
  line[n++] = '}';
  line[n++] = '\n';
  if (::write(answers, line, n) < 0) ::_exit(98);
}

const char* word_for(Verdict v) {
  switch (v) {
    case Verdict::pass: return "pass";
    case Verdict::approximate: return "approximate";
    case Verdict::refused: return "refused";
    case Verdict::skipped: return "skipped";
    case Verdict::fail: return "fail";
  }
  return "fail";
}

Outcome guarded_run(const Case& c, uint64_t seed) {
  try {
    return c.run(Source(seed_of(c.id, seed)));
  } catch (const Error& e) {
    return {Verdict::fail, e.what(), ""};
  } catch (const std::bad_alloc&) {
    return {Verdict::fail, "out of memory", ""};
  } catch (const std::exception& e) {
    return {Verdict::fail, e.what(), ""};
  } catch (...) {
    return {Verdict::fail, "an exception came out of the plugin", ""};
  }
}

class Work {
 public:
  explicit Work(const WorkerArguments& a) : a_(a) {}

  void line(const std::string& text) {
    if (text.rfind("plan ", 0) == 0) return plan(text[5] - '0');
    if (text.rfind("L0/", 0) == 0) {
      const std::string wrong = run_load_check(text.substr(text.rfind('/') + 1), a_.plugin);
      return answer({{"id", text}, {"verdict", wrong.empty() ? "pass" : "fail"}, {"text", wrong}, {"unit", ""}});
    }
    load();
    const int level = text.size() > 1 ? text[1] - '0' : -1;
    if (level < 1 || level >= levels) return answer({{"id", text}, {"verdict", "unknown"}, {"text", "no such level"}, {"unit", ""}});
    for (const Case& c : cases(level)) {
      if (c.id != text) continue;
      const Outcome o = guarded_run(c, a_.seed);
      return answer({{"id", text}, {"verdict", word_for(o.verdict)}, {"text", o.text}, {"unit", o.unit}});
    }
    answer({{"id", text}, {"verdict", "unknown"}, {"text", "there is no such case"}, {"unit", ""}});
  }

 private:
  void load() {
    if (subject_) return;
    subject_ = load_subject(a_.plugin, a_.seed);
    profiles_ = profiles_of(*subject_, a_.profile, &left_out_);
  }
  const std::vector<Case>& cases(int level) {
    auto [it, fresh] = cases_.emplace(level, std::vector<Case>{});
    if (fresh) it->second = cases_of(*subject_, profiles_, level);
    return it->second;
  }
  void plan(int level) {
    json::array ids;
    if (level == 0) {
      for (const auto& name : load_checks()) ids.push_back(json::value("L0/" + name));
      return answer({{"plan", ids}});
    }
    load();
    for (const Case& c : cases(level)) ids.push_back(json::value(c.id));
    json::array left_out, digests;
    for (const auto& l : left_out_) left_out.push_back(json::value(l));
    for (const auto& p : profiles_) digests.push_back(json::object{{"profile", p}, {"rules", subject_->target->rules(p).digest}});
    answer({{"plan", ids}, {"left_out", left_out}, {"profiles", digests}, {"id", subject_->manifest.id}, {"version", subject_->manifest.version},
            {"target", subject_->target->name()}});
  }

  const WorkerArguments& a_;
  std::optional<Subject> subject_;
  std::vector<std::string> profiles_, left_out_;
  std::map<int, std::vector<Case>> cases_;
};

}  // namespace

int work(const WorkerArguments& arguments) {
  answers = arguments.report;
  log::set_level(log::Level::error);
  watch_guards(say_last_words);
  register_quern_shape_rules();
  Work w(arguments);
  for (std::string line; std::getline(std::cin, line);) {
    try {
      w.line(line);
    } catch (const std::exception& e) {
      answer({{"id", line}, {"verdict", "fail"}, {"text", e.what()}, {"unit", ""}});
    }
  }
  return 0;
}

}  // namespace quern::conform
