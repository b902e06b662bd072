// Row kernels of the simulated VPU on every instruction set: a line each.
#include <benchmark/benchmark.h>

#include <cmath>
#include <string>
#include <vector>

#include "plugins/vpu_sim/rows.hpp"

namespace {

using quern_vpu::Rows;

void codes(benchmark::State& state, const Rows* rows) {
  const auto n = static_cast<size_t>(state.range(0));
  std::vector<int32_t> acc(n, 12345);
  std::vector<double> bias(n, 77), factor(n, std::ldexp(40000.0, -25));
  std::vector<uint8_t> out(n);
  for (auto _ : state) {
    rows->codes(acc.data(), bias.data(), factor.data(), static_cast<int64_t>(n), {3, 0, 255, nullptr}, out.data());
    benchmark::DoNotOptimize(out.data());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(n));
}

void dot(benchmark::State& state, const Rows* rows) {
  const int64_t depth = state.range(0), columns = 64, pixels = 64;
  std::vector<int16_t> a(static_cast<size_t>(pixels * depth), 100), w(static_cast<size_t>(columns * depth), -7);
  std::vector<int32_t> out(static_cast<size_t>(pixels * columns));
  for (auto _ : state) {
    rows->dot(a.data(), pixels, w.data(), quern_vpu::panels_of(columns), depth, out.data(), columns);
    benchmark::DoNotOptimize(out.data());
  }
  state.SetItemsProcessed(state.iterations() * depth * columns * pixels * 2);
}

void depthwise(benchmark::State& state, const Rows* rows) {
  const int64_t n = state.range(0), taps = 9;
  const std::vector<uint8_t> in(static_cast<size_t>(n), 9);
  const std::vector<const uint8_t*> places(static_cast<size_t>(taps), in.data());
  std::vector<int16_t> w(static_cast<size_t>(taps * n), 5);
  std::vector<int32_t> acc(static_cast<size_t>(n));
  for (auto _ : state) {
    rows->depthwise(places.data(), taps, false, 3, w.data(), n, n, acc.data());
    benchmark::DoNotOptimize(acc.data());
  }
  state.SetItemsProcessed(state.iterations() * n * taps * 2);
}

void widen(benchmark::State& state, const Rows* rows) {
  const auto n = static_cast<size_t>(state.range(0));
  const std::vector<uint8_t> in(n + 16, 9);
  std::vector<int16_t> out(n + 16);
  for (auto _ : state) {
    rows->widen(in.data(), false, 3, static_cast<int64_t>(n), out.data());
    benchmark::DoNotOptimize(out.data());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(n));
}

}  // namespace

int main(int argc, char** argv) {
  for (const Rows* rows : {&quern_vpu::rows_base(), quern_vpu::rows_avx2(), quern_vpu::rows_avx512()}) {
    if (!rows) continue;
    const std::string name = std::string("/") + rows->name;
    benchmark::RegisterBenchmark(("codes" + name).c_str(), codes, rows)->Arg(24)->Arg(256);
    benchmark::RegisterBenchmark(("dot" + name).c_str(), dot, rows)->Arg(28)->Arg(576);
    benchmark::RegisterBenchmark(("depthwise" + name).c_str(), depthwise, rows)->Arg(24)->Arg(128);
    benchmark::RegisterBenchmark(("widen" + name).c_str(), widen, rows)->Arg(27)->Arg(256);
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
