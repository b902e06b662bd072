// bench --profile: every step of the plan with its kernel, time, copies, and operations a second beside what the machine can do.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>

#include "cli/verbs.hpp"
#include "core/base/parallel.hpp"
#include "core/engine/peak.hpp"

namespace quern::cli {
namespace {

using Clock = std::chrono::steady_clock;

double median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Medians over many runs, in ms.
struct Measured {
  std::vector<double> kernels, copies;
  double outputs = 0, between = 0, total = 0;  // total: the sum of all medians
  double wall = 0;                             // of runs that were not taken apart
  size_t runs = 0;
};

Measured measure(Runner& runner, const NamedTensors& inputs, double seconds) {
  Measured m;
  std::vector<double> wall, between, outputs;
  std::vector<std::vector<double>> kernels, copies;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  while (wall.size() < 5 || (Clock::now() < end && wall.size() < 2000)) {
    throw_if_cancelled();
    runner.profile(false);
    const auto start = Clock::now();
    runner.run(inputs);
    wall.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
    runner.profile(true);
    runner.run(inputs);
    const RunProfile& p = runner.last_profile();
    kernels.resize(p.kernels.size());
    copies.resize(p.copies.size());
    double rest = p.total - p.outputs;
    for (size_t i = 0; i < p.kernels.size(); ++i) {
      kernels[i].push_back(1e3 * p.kernels[i]);
      copies[i].push_back(1e3 * p.copies[i]);
      rest -= p.kernels[i] + p.copies[i];
    }
    outputs.push_back(1e3 * p.outputs);
    between.push_back(1e3 * rest);
  }
  m.runs = wall.size();
  m.wall = median(wall);
  m.outputs = median(outputs);
  m.between = median(between);
  for (auto& k : kernels) m.kernels.push_back(median(k));
  for (auto& c : copies) m.copies.push_back(median(c));
  m.total = m.outputs + m.between;
  for (size_t i = 0; i < m.kernels.size(); ++i) m.total += m.kernels[i] + m.copies[i];
  return m;
}

bool integer_step(const PlanStep& s) { return s.op == "Unit" && s.provider != "interpreter"; }

}  // namespace

int print_profile(Engine& engine, Runner& runner, const NamedTensors& inputs, double seconds, int threads, bool as_json) {
  const MachinePeak peak = measure_peak(threads);
  const PlanInfo plan = engine.plan_info(inputs);
  const Measured m = measure(runner, inputs, seconds);
  double copied = m.outputs;
  for (double c : m.copies) copied += c;
  const auto gops = [&](size_t i) { return m.kernels[i] > 0 ? 2e-6 * static_cast<double>(plan.steps[i].macs) / m.kernels[i] : 0.0; };
  const auto of_peak = [&](size_t i) { return gops(i) / (integer_step(plan.steps[i]) ? peak.int8 : peak.f32); };
  if (as_json) {
    json::array list;
    for (size_t i = 0; i < plan.steps.size(); ++i) {
      const PlanStep& s = plan.steps[i];
      json::array copies;
      for (const PlanCopy& c : s.copies) copies.push_back(json::object{{"tensor", c.value}, {"turns", c.turns}, {"bytes", c.bytes}});
      list.push_back(json::object{{"node", s.node}, {"op", s.op}, {"kernel", s.kernel}, {"provider", s.provider}, {"portable", s.portable}, {"ms", m.kernels[i]},
                                  {"share", number((m.kernels[i] + m.copies[i]) / m.total)}, {"macs", s.macs}, {"gops", gops(i)}, {"of_peak", of_peak(i)},
                                  {"copy_ms", m.copies[i]}, {"copies", std::move(copies)}});
    }
    print(to_text(json::object{{"wall_ms", m.wall}, {"total_ms", m.total}, {"copies_ms", copied}, {"outputs_ms", m.outputs}, {"between_ms", m.between},
                               {"runs", m.runs}, {"threads", threads}, {"arena_bytes", plan.arena_bytes}, {"workspace_bytes", plan.workspace_bytes},
                               {"peak", json::object{{"f32_gops", peak.f32}, {"f32_by", peak.f32_by}, {"int8_gops", peak.int8}, {"int8_by", peak.int8_by}}},
                               {"steps", std::move(list)}}, false) + "\n");
    return 0;
  }
  std::string text = fmt::format("peak of {} thread{}: f32 {:.0f} Gop/s ({}), int8 {:.0f} Gop/s ({})\n\n", threads, threads == 1 ? "" : "s", peak.f32, peak.f32_by,
                                 peak.int8, peak.int8_by);
  text += fmt::format("{:>10} {:>6} {:>8} {:>5}  {:<40} {:<10} {}\n", "us", "share", "Gop/s", "peak", "kernel", "provider", "node");
  std::map<std::string, double> by_kernel;
  const auto line = [&](double ms, const std::string& rates, std::string_view kernel, std::string_view provider, const std::string& node) {
    text += fmt::format("{:>10.2f} {:>5.1f}% {:>14}  {:<40} {:<10} {}\n", 1e3 * ms, 100 * ms / m.total, rates, kernel, provider, node);
    by_kernel[std::string(kernel)] += ms;
  };
  for (size_t i = 0; i < plan.steps.size(); ++i) {
    const PlanStep& s = plan.steps[i];
    if (!s.copies.empty()) {
      std::string what;
      bool turns = false;
      for (const PlanCopy& c : s.copies) {
        what += fmt::format("{}'{}' {} bytes", what.empty() ? "" : ", ", c.value, c.bytes);
        turns = turns || c.turns;
      }
      line(m.copies[i], "", turns ? "layout copy" : "copy", "engine", what);
    }
    const bool nothing = s.kernel == "view" || s.kernel == "empty" || m.kernels[i] == 0;
    line(m.kernels[i], s.macs && !nothing ? fmt::format("{:.1f} {:>4.0f}%", gops(i), 100 * of_peak(i)) : "", s.kernel, s.provider,
         fmt::format("{} ({}){}", s.node, s.op, s.portable ? "" : ", not portable"));
  }
  line(m.outputs, "", "copy of results", "engine", "");
  line(m.between, "", "between the steps", "engine", fmt::format("{:.0f} ns a step", 1e6 * (m.between) / static_cast<double>(std::max<size_t>(1, plan.steps.size()))));
  text += fmt::format("\n{:>10.2f} us in all, {:.2f} us when not taken apart; medians of {} runs; arena {} bytes, workspace {} bytes\n\n", 1e3 * m.total, 1e3 * m.wall, m.runs,
                      plan.arena_bytes, plan.workspace_bytes);
  std::vector<std::pair<std::string, double>> kernels(by_kernel.begin(), by_kernel.end());
  std::stable_sort(kernels.begin(), kernels.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  for (const auto& [kernel, ms] : kernels) text += fmt::format("{:>10.2f} {:>5.1f}%  {}\n", 1e3 * ms, 100 * ms / m.total, kernel);
  print(text);
  return 0;
}

}  // namespace quern::cli
