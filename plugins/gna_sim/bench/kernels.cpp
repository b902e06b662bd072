// Speed of the gna_sim target's kernels: the plain model and the fast version of each, side by side. Sums in Gop/s (a multiply-accumulate
// is two operations), functions in millions of values a second.
//
//   gna_kernels [--benchmark_filter=REGEX]
#include <benchmark/benchmark.h>

#include <cmath>
#include <random>

#include "plugins/gna_sim/fit.hpp"
#include "plugins/gna_sim/sums.hpp"

namespace {

std::vector<int16_t> random_codes(size_t n) {
  std::mt19937 r(1);
  std::vector<int16_t> v(n);
  for (auto& c : v) c = static_cast<int16_t>(r() % 255) - 127;
  return v;
}

void sums(benchmark::State& state, bool fast, int64_t every) {
  constexpr int64_t n = 1024, rows = 256;
  const auto x = random_codes(n), w = random_codes(n * rows);
  std::vector<int32_t> out(rows);
  uint64_t saturated = 0;
  for (auto _ : state) {
    for (int64_t r = 0; r < rows; r += 4) {
      if (every) for (int64_t k = r; k < r + 4; ++k) out[static_cast<size_t>(k)] = quern_gna::saturating_sum(x.data(), w.data() + k * n, n, 0, every, saturated);
      else (fast ? quern_gna::exact_sums : quern_gna::plain_sums)(x.data(), w.data() + r * n, n, 4, n, out.data() + r);
    }
    benchmark::DoNotOptimize(out.data());
  }
  state.counters["Gop/s"] = benchmark::Counter(2e-9 * n * rows * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

quern_gna::Target tanh_target() {
  quern_gna::Target t;
  t.f = [](double x) { return std::tanh(x); };
  t.x_scale = 1e-8;
  t.y_scale = 1.0 / 32767;
  return t;
}

void functions(benchmark::State& state, bool fast) {
  const quern_gna::Segments s(quern_gna::fit_segments(tanh_target(), 128).rows);
  std::mt19937 r(1);
  std::vector<int32_t> x(4096);
  for (auto& v : x) v = static_cast<int32_t>(r());
  std::vector<int16_t> y(x.size());
  for (auto _ : state) {
    if (fast) s.run(x.data(), 4096, -32768, 32767, y.data());
    else s.plain(x.data(), 4096, -32768, 32767, y.data());
    benchmark::DoNotOptimize(y.data());
  }
  state.counters["M/s"] = benchmark::Counter(4096e-6 * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

void fit(benchmark::State& state) {
  const auto t = tanh_target();
  for (auto _ : state) benchmark::DoNotOptimize(quern_gna::fit_segments(t, 128).rows.data());
}

BENCHMARK_CAPTURE(sums, plain, false, 0);
BENCHMARK_CAPTURE(sums, fast, true, 0);
BENCHMARK_CAPTURE(sums, saturating, false, 12288);
BENCHMARK_CAPTURE(functions, plain, false);
BENCHMARK_CAPTURE(functions, fast, true);
BENCHMARK(fit)->Unit(benchmark::kMicrosecond);

}  // namespace

BENCHMARK_MAIN();
