// Collectors of calibration data, one thread: what one sample's tensor of 64 x 56 x 56 costs. `collect/...` is the whole
// observation, as calibration pays for it: the check for NaN and infinity, then the collector; `pass/...` is the inner loop
// alone. All results are exact (order statistics, integer counts, sums in fixed point), so no line trades precision for speed.
#include <cmath>

#include "bench/micro/data.hpp"
#include "core/statistics/exact_sum.hpp"
#include "core/statistics/scan.hpp"
#include "core/statistics/statistics.hpp"

namespace quern::bench {
namespace {

void collect(benchmark::State& state, const StatisticRequest& request, bool last) {
  const Tensor x = normal(activation);
  const Dims strides = last ? channels_last_strides(x.dims()) : row_major_strides(x.dims());
  StatisticsSet set;
  set.request(request);
  int64_t sample = 0;
  for (auto _ : state) set.observe(request.value, sample++, {const_cast<void*>(x.data()), x.type(), x.dims(), strides});
  rates(state, x.count(), static_cast<int64_t>(x.bytes()));
}

const bool registered = [] {
  using K = StatisticKind;
  const auto line = [](const char* name, StatisticRequest request, bool last = false) {
    request.value = std::string("x");
    benchmark::RegisterBenchmark((std::string("collect/") + name).c_str(), [=](benchmark::State& s) { collect(s, request, last); });
  };
  line("min_max", {.kind = K::min_max});
  line("min_max_channels", {.kind = K::min_max, .axis = 1});
  line("min_max_channels_last", {.kind = K::min_max, .axis = 1}, true);
  line("histogram", {.kind = K::histogram});
  line("mean", {.kind = K::mean});
  line("mean_channels", {.kind = K::mean, .axis = 1});
  line("mean_channels_last", {.kind = K::mean, .axis = 1}, true);
  line("sample_min", {.kind = K::sample_min});
  line("sample_max", {.kind = K::sample_max});
  line("sample_abs_max", {.kind = K::sample_abs_max});
  line("sample_quantile_1e-4", {.kind = K::sample_quantile, .quantile = 1 - 1e-4});
  line("sample_abs_quantile_1e-4", {.kind = K::sample_abs_quantile, .quantile = 1 - 1e-4});
  line("sample_quantile_median", {.kind = K::sample_quantile, .quantile = 0.5});
  return true;
}();

template <class F>
void pass(benchmark::State& state, F f) {
  const Tensor x = normal(activation);
  for (auto _ : state) {
    f(x.values<float>().data(), x.count());
    benchmark::ClobberMemory();
  }
  rates(state, x.count(), static_cast<int64_t>(x.bytes()));
}
BENCHMARK_CAPTURE(pass, extremes, [](const float* x, int64_t n) { benchmark::DoNotOptimize(extremes_of(x, n)); });
BENCHMARK_CAPTURE(pass, count_bins, [](const float* x, int64_t n) {
  static std::vector<int64_t> negative(histogram_bins), positive(histogram_bins);
  int64_t zeros = 0;
  count_bins(x, n, 3, negative.data(), positive.data(), zeros);
});
BENCHMARK_CAPTURE(pass, exact_sum, [](const float* x, int64_t n) {
  ExactSum sum;
  add_run(x, n, 8.0f, sum);
  benchmark::DoNotOptimize(sum);
});
BENCHMARK_CAPTURE(pass, quantile_1e-4, [](const float* x, int64_t n) { benchmark::DoNotOptimize(quantile_of(x, n, 1 - 1e-4, false)); });

}  // namespace
}  // namespace quern::bench
