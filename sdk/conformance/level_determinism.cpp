// L5: the same bytes whatever happens around: threads, repeats, places in memory, other kernels, other threads, other times.
#include <fmt/format.h>

#include <thread>

#include "core/base/error.hpp"
#include "sdk/conformance/cases.hpp"

namespace quern::conform {
namespace {

struct Taken { Trial trial; Tensor expected; };

std::optional<Taken> taken(const Bench& b, const Variant& v, uint64_t seed, Outcome& otherwise) {
  for (int64_t i = 0; i < 8; ++i) {
    Source one(mixed(seed + static_cast<uint64_t>(i)));
    std::string why;
    auto t = find_trial(*b.rules, v, types_for(v, i + 1), {}, one, &why);
    otherwise = {Verdict::skipped, why, v.name()};
    if (!t) continue;
    if (auto early = derive_tables(b.target(), b.profile, *t, true)) {
      otherwise = *early;
      if (early->verdict == Verdict::fail) return std::nullopt;
      continue;
    }
    Tensor expected = interpret(*t);
    return Taken{std::move(*t), std::move(expected)};
  }
  return std::nullopt;
}

Outcome failed(const Trial& t, std::string text) { return {Verdict::fail, std::move(text), t.text()}; }

bool same_tables(const std::map<std::string, Tensor>& a, const std::map<std::string, Tensor>& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [name, t] : a) {
    const auto it = b.find(name);
    if (it == b.end() || it->second.type() != t.type() || it->second.dims() != t.dims() || std::memcmp(it->second.data(), t.data(), t.bytes()) != 0) return false;
  }
  return true;
}

Outcome repeats(const Bench& b, const Variant& v, uint64_t seed) {
  Outcome otherwise;
  auto t = taken(b, v, seed, otherwise);
  if (!t) return otherwise;
  std::optional<uint64_t> saturations;
  for (const int threads : {1, 2, 3, 5, 8}) {
    Prepared p(b.target(), b.profile, t->trial, threads);
    for (int i = 0; i < 6; ++i) {
      Conditions c;
      c.threads = threads;
      c.offset = static_cast<size_t>(i * 64 * (threads % 3 + 1));
      c.channels_last = i % 2 == 1;
      c.fill = static_cast<unsigned char>(37 * i);
      const Ran ran = p.run(t->trial, c);
      if (const std::string d = difference(t->expected, ran.output); !d.empty())
        return failed(t->trial, fmt::format("with {} threads, run {}, {} bytes behind a page's begin: {}", threads, i + 1, c.offset, d));
      if (!saturations) saturations = ran.saturations;
      if (*saturations != ran.saturations)
        return failed(t->trial, fmt::format("it counts {} saturations with {} threads in run {}, and {} at first", ran.saturations, threads, i + 1, *saturations));
    }
  }
  if (*saturations > 0 && t->trial.unit->contract->acc.overflow != Overflow::saturate)
    return failed(t->trial, fmt::format("it counts {} saturations, and its contract's accumulator does not saturate", *saturations));
  return {Verdict::pass, "", t->trial.text()};
}

// Two units by turns, and one kernel in several threads at once, each with a context and inputs of its own.
Outcome together(const Bench& b, const Variant& v, const Variant& other, uint64_t seed) {
  Outcome otherwise;
  auto one = taken(b, v, seed, otherwise);
  if (!one) return otherwise;
  Outcome ignored;
  Prepared p(b.target(), b.profile, one->trial, 2);
  for (const Variant* next : {&v, &other}) {
    auto two = taken(b, *next, seed + 1, ignored);
    if (!two) continue;
    Prepared q(b.target(), b.profile, two->trial, 2);
    for (int i = 0; i < 4; ++i) {
      if (const std::string d = difference(two->expected, q.run(two->trial, {}).output); !d.empty()) return failed(two->trial, "by turns with another unit: " + d);
      if (const std::string d = difference(one->expected, p.run(one->trial, {}).output); !d.empty()) return failed(one->trial, "by turns with another unit: " + d);
    }
  }
  const auto kernel = b.target().compile(b.profile, *one->trial.unit, one->trial.input_dims(), one->trial.unit->output.dims, 1);
  // Inputs of its own for every thread: the same numbers turned around, so that a shared buffer shows.
  constexpr size_t workers = 4;
  std::vector<Trial> trials(workers, one->trial);
  std::vector<Tensor> expected;
  for (size_t w = 0; w < workers; ++w) {
    for (Tensor& x : trials[w].inputs) {
      Tensor turned(x.type(), x.dims());
      const size_t size = size_of(x.type()), n = static_cast<size_t>(x.count());
      for (size_t i = 0; i < n; ++i)
        std::memcpy(static_cast<char*>(turned.mutable_bytes()) + i * size, static_cast<const char*>(x.data()) + (i * 7 + w * 13) % n * size, size);
      x = turned;
    }
    expected.push_back(interpret(trials[w]));
  }
  std::vector<std::string> wrong(workers);
  std::vector<std::thread> threads;
  std::atomic<size_t> waiting{0};
  for (size_t w = 0; w < workers; ++w)
    threads.emplace_back([&, w] {
      try {
        Prepared own(b.target(), b.profile, trials[w], 1);
        waiting.fetch_add(1);
        while (waiting.load() < workers) std::this_thread::yield();
        for (int i = 0; i < 24 && wrong[w].empty(); ++i) {
          wrong[w] = difference(expected[w], own.run(trials[w], {}).output);
          if (i % 8 == 3) own.renew_context();
        }
        // Asked from several threads on the same unit.
        if (!same_tables(b.target().derive(b.profile, *trials[w].unit), trials[w].unit->tables)) wrong[w] = "derive gives other tables";
      } catch (const Error& e) {
        waiting.fetch_add(workers);
        wrong[w] = e.what();
      }
    });
  for (auto& t : threads) t.join();
  for (size_t w = 0; w < workers; ++w)
    if (!wrong[w].empty()) return failed(trials[w], "with several threads at once: " + wrong[w]);
  // The same kernel, several contexts.
  std::vector<std::unique_ptr<TargetKernel::Context>> contexts;
  for (size_t w = 0; w < workers; ++w) contexts.push_back(kernel->make_context());
  return {Verdict::pass, "", one->trial.text()};
}

// Where an accumulator saturates: the count is that of the last run, and the same every time.
Outcome counted(const Bench& b, const Variant& v, Source s) {
  const auto depths = long_depths(b, v, 0);
  std::string why;
  auto trial = depths.empty() ? std::nullopt : long_trial(b, v, 0, depths.back(), s, &why);
  if (!trial) return {Verdict::skipped, why.empty() ? "no sum of a sensible length leaves this accumulator" : why, v.name()};
  if (auto early = derive_tables(b.target(), b.profile, *trial, true)) return *early;
  std::optional<uint64_t> first;
  for (const int threads : {1, 2, 4}) {
    Prepared p(b.target(), b.profile, *trial, threads);
    for (int i = 0; i < 3; ++i) {
      const Ran ran = p.run(*trial, {.threads = threads});
      if (!first) first = ran.saturations;
      if (*first != ran.saturations)
        return failed(*trial, fmt::format("it counts {} saturations with {} threads in run {}, and {} at first", ran.saturations, threads, i + 1, *first));
    }
  }
  if (*first == 0 && b.subject.table().saturations) return failed(*trial, "its accumulator saturates, and its counter stays at 0");
  return {Verdict::pass, "", trial->text()};
}

// derive and supports are pure: of copies at other addresses, at other times, without a batch size, after other questions.
Outcome pure(const Bench& b, const std::vector<Variant>& variants, uint64_t seed) {
  std::vector<Trial> trials;
  std::vector<std::string> answers;
  std::string first_failure;
  for (size_t i = 0; i < variants.size(); ++i) {
    Outcome otherwise;
    auto t = taken(b, variants[i], seed + i, otherwise);
    if (!t && otherwise.verdict == Verdict::fail) return otherwise;
    if (t) trials.push_back(std::move(t->trial));
  }
  if (trials.empty()) return {Verdict::skipped, "no unit could be drawn", ""};
  std::vector<std::vector<char>> ballast;
  for (int round = 0; round < 4; ++round) {
    for (size_t i = trials.size(); i-- > 0;) {
      const Trial& t = trials[i];
      ballast.emplace_back(static_cast<size_t>(997 * (round + 1)));
      auto copy = std::make_shared<IntegerUnit>(*t.unit);
      if (round == 2 && !copy->operands.empty()) {
        for (auto& o : copy->operands)
          if (!o.constant && !o.dims.empty() && o.dims[0] == 1 && copy->output.dims.size() == o.dims.size() && o.dims.size() > 1) o.dims[0] = -1;
        if (!copy->output.dims.empty() && copy->output.dims[0] == 1) copy->output.dims[0] = -1;
      }
      copy->tables.clear();
      std::string reason;
      try {
        if (!b.target().supports(b.profile, *copy, &reason)) {
          if (round == 2) continue;  // some need to know the batch
          return failed(t, fmt::format("it supports this unit, and asked again does not: {}", reason));
        }
        if (!same_tables(b.target().derive(b.profile, *copy), t.unit->tables))
          return failed(t, round == 2 ? "derive gives other tables without a batch size" : "derive gives other tables for the same unit when asked again");
      } catch (const Error& e) {
        if (round != 2) return failed(t, e.what());
      }
    }
    if (round == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1100));  // clocks of whole seconds move
  }
  return {Verdict::pass, "", fmt::format("{} units", trials.size())};
}

}  // namespace

void determinism_cases(const Bench& bench, std::vector<Case>& out) {
  const auto variants = distinct_kernels(*bench.rules, false);
  for (size_t i = 0; i < variants.size(); ++i) {
    const Variant v = variants[i], other = variants[(i + 1) % variants.size()];
    for (int n = 0; n < 2; ++n)
      out.push_back({fmt::format("L5/{}/{}/repeats{}", bench.profile, v.name(), n), [bench, v](const Source& s) { return repeats(bench, v, s.seed()); }});
    out.push_back({fmt::format("L5/{}/{}/together", bench.profile, v.name()), [bench, v, other](const Source& s) { return together(bench, v, other, s.seed()); }});
  }
  for (const Variant& v : variants) {
    const Contract& c = *bench.rules->contracts.at(v.config->contract);
    if (c.form == KernelForm::dot && c.acc.overflow == Overflow::saturate)
      out.push_back({fmt::format("L5/{}/{}/counted", bench.profile, v.name()), [bench, v](const Source& s) { return counted(bench, v, s); }});
  }
  out.push_back({fmt::format("L5/{}/pure", bench.profile), [bench, variants](const Source& s) { return pure(bench, variants, s.seed()); }});
}

}  // namespace quern::conform
