#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <iostream>

#include "cli/verbs.hpp"
#include "core/base/error.hpp"
#include "core/base/parallel.hpp"

namespace quern::cli {
namespace {

// Inputs of the right shape; the values are noise from a fixed generator, the same on every machine.
Tensor make_input(const InputSpec& spec, int64_t batch, const std::vector<std::string>& shapes) {
  Dims dims = spec.dims;
  bool given = false;
  for (const auto& text : shapes) {
    const size_t equals = text.rfind('=');
    if (equals == std::string::npos) throw Error(ErrorCode::usage, fmt::format("--shape {}: should be NAME=1x3x224x224", text));
    if (text.substr(0, equals) != spec.name) continue;
    given = true;
    dims.clear();
    int64_t value = 0;
    bool digit = false;
    for (char c : text.substr(equals + 1) + "x") {
      if (c >= '0' && c <= '9' && value < (int64_t{1} << 40)) { value = value * 10 + (c - '0'); digit = true; }
      else if (c == 'x' && digit) { dims.push_back(value); value = 0; digit = false; }
      else throw Error(ErrorCode::usage, fmt::format("--shape {}: should be NAME=1x3x224x224", text));
    }
  }
  if (!given && !dims.empty()) {
    if (dims[0] < 0) dims[0] = batch;
    else if (dims[0] != batch && batch != 1)
      throw Error(ErrorCode::usage, fmt::format("the input '{}' is fixed to a batch of {}; --batch {} can't be run", spec.name, dims[0], batch));
  }
  if (std::any_of(dims.begin(), dims.end(), [](int64_t d) { return d < 0; }))
    throw Error(ErrorCode::usage, fmt::format("the input '{}' has the shape {}; say which to take with --shape {}=...", spec.name, to_string(dims), spec.name));
  Tensor t(spec.dtype, dims);
  if (spec.dtype == DType::f32) {
    uint64_t state = 0x9e3779b97f4a7c15ull;
    for (float& v : t.mutable_values<float>()) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      v = static_cast<float>(state >> 40) * (1.0f / 16777216.0f);
    }
  }
  return t;
}

// Of all threads of this process; what else runs on the machine hardly counts.
double process_cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// For interleaved comparisons with other programs (bench/peers): this process keeps its model warm and runs only when asked.
int run_paced(Runner& runner, const NamedTensors& inputs, double first) {
  using clock = std::chrono::steady_clock;
  print(to_text(json::object{{"first_ms", first}}, false) + "\n");
  std::string line;
  while (std::getline(std::cin, line)) {
    int64_t runs = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), runs);
    if (error != std::errc() || end != line.data() + line.size() || runs < 1 || runs > 1'000'000)
      throw Error(ErrorCode::usage, fmt::format("--paced: '{}' is no number of runs; 1 to 1000000 are possible", line));
    json::array times;
    times.reserve(static_cast<size_t>(runs));
    const double cpu = process_cpu_seconds();
    for (int64_t i = 0; i < runs; ++i) {
      throw_if_cancelled();
      const auto start = clock::now();
      runner.run(inputs);
      times.emplace_back(std::chrono::duration<double, std::milli>(clock::now() - start).count());
    }
    const double cpu_ms = 1e3 * (process_cpu_seconds() - cpu) / static_cast<double>(runs);
    print(to_text(json::object{{"ms", std::move(times)}, {"cpu_ms", cpu_ms}}, false) + "\n");
  }
  return 0;
}

}  // namespace

int bench_verb(const BenchArguments& a) {
  using clock = std::chrono::steady_clock;
  const RunAs as = run_as_from_name(a.as);
  PluginRegistry registry(a.plugin_options());
  LoadedModel model = load_model(a.model, as, registry);
  const int threads = a.thread_count(1);
  set_plugin_threads(threads);
  NamedTensors inputs;
  if (!a.inputs.empty()) inputs = read_inputs(a.inputs, model.inputs);
  else
    for (const auto& spec : model.inputs) inputs.emplace_back(spec.name, make_input(spec, a.batch, a.shapes));
  const auto prepare_start = clock::now();
  Engine engine(std::move(model.graph), {.providers = model.providers, .op_threads = threads});
  Runner runner = engine.runner();
  runner.run(inputs);
  const double first = std::chrono::duration<double, std::milli>(clock::now() - prepare_start).count();

  if (a.paced) return run_paced(runner, inputs, first);
  // Warm up for a tenth of the time, then measure: at least 5 runs, at most 100,000.
  const auto warm_end = clock::now() + std::chrono::duration<double>(a.seconds / 10);
  do { throw_if_cancelled(); runner.run(inputs); } while (clock::now() < warm_end);
  if (a.profile) return print_profile(engine, runner, inputs, a.seconds, threads, a.json);
  std::vector<double> times;
  const auto end = clock::now() + std::chrono::duration<double>(a.seconds);
  while (times.size() < 5 || (clock::now() < end && times.size() < 100'000)) {
    throw_if_cancelled();
    const auto start = clock::now();
    runner.run(inputs);
    times.push_back(std::chrono::duration<double, std::milli>(clock::now() - start).count());
  }
  std::sort(times.begin(), times.end());
  const auto at = [&](double q) { return times[static_cast<size_t>(q * static_cast<double>(times.size() - 1))]; };
  if (a.json) {
    print(to_text(json::object{{"median_ms", at(0.5)}, {"p10_ms", at(0.1)}, {"p90_ms", at(0.9)}, {"min_ms", times.front()}, {"runs", times.size()},
                               {"batch", a.batch}, {"threads", threads}, {"as", a.as}, {"first_ms", first},
                               {"peak_memory_bytes", peak_memory_bytes()}}, false) + "\n");
  } else {
    print(fmt::format("{}: median {:.4g} ms, 10 % {:.4g} ms, 90 % {:.4g} ms; {} runs, batch {}, {} thread{}; preparation and first run {:.3g} ms\n", a.as,
                      at(0.5), at(0.1), at(0.9), times.size(), a.batch, threads, threads == 1 ? "" : "s", first));
  }
  return 0;
}

}  // namespace quern::cli
