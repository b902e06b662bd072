// Speed of the cpu target's kernels: one line each (and for each instruction set; by_rule: what a unit really runs on), Gop/s for convolutions and matrix products (a multiply-accumulate is two
// operations), GB/s for the rest. `--benchmark_filter=dw` for a part; the argument is the number of threads.
//
//   cpu_kernels [--benchmark_filter=REGEX]
#include <benchmark/benchmark.h>

#include <random>

#include "plugins/cpu/dot.hpp"
#include "plugins/cpu/product.hpp"
#include "plugins/cpu/rows.hpp"
#include "plugins/cpu/self_check.hpp"
#include "plugins/cpu/strided.hpp"
#include "plugins/cpu/turn.hpp"

namespace {

using quern_cpu::Dot;
using quern_cpu::DotSpec;

std::vector<uint8_t> random_bytes(size_t n) {
  std::mt19937 r(1);
  std::vector<uint8_t> v(n + 128);
  for (auto& b : v) b = static_cast<uint8_t>(r());
  return v;
}

uint8_t* aligned(std::vector<uint8_t>& v) { return v.data() + (64 - reinterpret_cast<uintptr_t>(v.data()) % 64) % 64; }

struct Shape {
  const char* name;
  int64_t ic, oc, groups, size, kernel, stride;
  bool is_signed = false, residual = false, floats = false;
  int64_t rows = 0;  // of a matrix product
  bool transposed = false;
};

void dot(benchmark::State& state, const Shape& shape, quern_cpu::Isa isa, Dot::Engine engine) {
  std::string why;
  if (!quern_cpu::isa_available(isa, why)) {
    state.SkipWithError(why.c_str());
    return;
  }
  DotSpec s;
  s.isa = isa;
  s.ic = shape.ic;
  s.oc = shape.oc;
  s.groups = shape.groups;
  for (quern_cpu::Axis* a : {&s.h, &s.w}) {
    a->in = shape.size;
    a->kernel = shape.kernel;
    a->stride = shape.stride;
    a->pad_begin = a->pad_end = shape.kernel / 2;
    a->out = (shape.size + 2 * a->pad_begin - shape.kernel) / shape.stride + 1;
  }
  s.transposed = shape.transposed;
  if (s.transposed)
    for (quern_cpu::Axis* a : {&s.h, &s.w}) a->pad_begin = a->pad_end = 0, a->out = (shape.size - 1) * shape.stride + shape.kernel;
  if (shape.rows) s.w.in = s.w.out = shape.rows;
  s.src = shape.is_signed ? QUERN_DTYPE_S8 : QUERN_DTYPE_U8;
  s.src_zp = shape.is_signed ? 0 : 117;
  s.dst = shape.floats ? QUERN_DTYPE_F32 : QUERN_DTYPE_U8;
  s.dst_zp = shape.floats ? 0 : 101;
  if (shape.residual) {
    s.residual = QUERN_DTYPE_U8;
    s.residual_zp = 77;
    s.residual_scale = 0.7f;
  }
  s.clamp = true;
  s.high = FLT_MAX;
  s.multiplier.assign(static_cast<size_t>(s.oc), 1e-4f);
  s.bias.assign(static_cast<size_t>(s.oc), 100.f);
  s.threads = static_cast<uint32_t>(state.range(0));
  auto weights = random_bytes(static_cast<size_t>(s.oc * s.ic / s.groups * shape.kernel * shape.kernel));
  s.weights = reinterpret_cast<const int8_t*>(weights.data());
  const Dot kernel(s, engine);
  auto src = random_bytes(static_cast<size_t>(s.ic * s.h.in * s.w.in)), dst = random_bytes(static_cast<size_t>(s.oc * s.h.out * s.w.out) * 4), residual = dst;
  auto workspace = random_bytes(kernel.workspace_bytes());
  Dot::Run run(kernel);
  for (auto _ : state) run(aligned(src), aligned(residual), aligned(dst), aligned(workspace));
  const int64_t places = s.transposed ? s.h.in * s.w.in : s.h.out * s.w.out;
  const double ops = 2.0 * static_cast<double>(s.oc * places * (s.ic / s.groups) * shape.kernel * shape.kernel);
  state.counters["Gop/s"] = benchmark::Counter(ops * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
  state.SetLabel(kernel.implementation());
}

// A product of two tensors that flow, as of one head of an attention.
void product(benchmark::State& state, int64_t m, int64_t k, int64_t n, quern_cpu::Isa isa) {
  std::string why;
  if (!quern_cpu::isa_available(isa, why)) {
    state.SkipWithError(why.c_str());
    return;
  }
  quern_cpu::ProductSpec s;
  s.isa = isa;
  s.a = {m, k}, s.b = {k, n}, s.out = {m, n};
  s.a_zp = 117, s.b_zp = 99;
  s.multiplier = {1e-4f};
  s.threads = static_cast<uint32_t>(state.range(0));
  const quern_cpu::Product kernel(s);
  auto a = random_bytes(static_cast<size_t>(m * k)), b = random_bytes(static_cast<size_t>(k * n)), out = random_bytes(static_cast<size_t>(m * n));
  auto workspace = random_bytes(kernel.workspace_bytes());
  for (auto _ : state) kernel.run(a.data(), b.data(), nullptr, out.data(), aligned(workspace));
  state.counters["Gop/s"] = benchmark::Counter(2e-9 * static_cast<double>(m * k * n), benchmark::Counter::kIsIterationInvariantRate);
  state.SetLabel(kernel.name());
}

void row(benchmark::State& state, const std::string& what, const quern_cpu::Rows& rows) {
  constexpr int64_t n = 1 << 15;
  auto a = random_bytes(n * 10), b = random_bytes(n), out = random_bytes(n * 4);
  const quern_cpu::Source s{0, 117, 0.37f};
  const quern_cpu::Sink k{0, 99.f, 3, 0, 255};
  std::vector<const uint8_t*> taps;
  for (int t = 0; t < 9; ++t) taps.push_back(a.data() + t * n);
  const int32_t weights[4] = {1 << 20, 1 << 20, 1 << 20, 1 << 20};
  float floats[256] = {};
  double bytes = 0;
  for (auto _ : state) {
    if (what == "add") rows.pair_codes[0](a.data(), b.data(), out.data(), n, s, s, k), bytes = 3 * n;
    if (what == "mul") rows.pair_codes[1](a.data(), b.data(), out.data(), n, s, s, k), bytes = 3 * n;
    if (what == "table") rows.look_up_codes(a.data(), out.data(), n, b.data()), bytes = 2 * n;
    if (what == "table_float") rows.look_up_floats(a.data(), reinterpret_cast<float*>(out.data()), n, floats), bytes = 5 * n;
    if (what == "linear_2x2") rows.resample_codes(taps.data(), weights, 4, out.data(), n, 0, s, k), bytes = 5 * n;
    if (what == "map") rows.map_codes(a.data(), out.data(), n, s, k), bytes = 2 * n;
    if (what == "average_3x3") rows.average_codes(taps.data(), 9, out.data(), n, 9, s, k), bytes = 10 * n;
    if (what == "max_3x3") rows.largest(taps.data(), 9, out.data(), n, 0), bytes = 10 * n;
    benchmark::ClobberMemory();
  }
  state.counters["GB/s"] = benchmark::Counter(bytes * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

void turn(benchmark::State& state, bool to_last) {
  auto in = random_bytes(64 * 56 * 56), out = in;
  const int64_t rows = to_last ? 56 * 56 : 64, columns = to_last ? 64 : 56 * 56;
  for (auto _ : state) {
    quern_cpu::turn_codes(in.data(), rows, out.data(), columns, rows, columns);
    benchmark::ClobberMemory();
  }
  state.counters["GB/s"] = benchmark::Counter(2.0 * 64 * 56 * 56 * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

const Shape shapes[] = {
    {"dense_3x3_64_56", 64, 64, 1, 56, 3, 1},
    {"dense_3x3_64_56_s8", 64, 64, 1, 56, 3, 1, true},
    {"dense_3x3_64_56_residual", 64, 64, 1, 56, 3, 1, false, true},
    {"dense_3x3_512_7", 512, 512, 1, 7, 3, 1},
    {"dense_3x3_16_32", 16, 16, 1, 32, 3, 1},
    {"first_7x7_224", 3, 64, 1, 224, 7, 2},
    {"first_3x3_96", 3, 8, 1, 96, 3, 2},
    {"point_256_512_14", 256, 512, 1, 14, 1, 1},
    {"point_32_64_48", 32, 64, 1, 48, 1, 1},
    {"point_24_144_28_residual", 144, 24, 1, 28, 1, 1, false, true},
    {"dw_3x3_128_28", 128, 128, 128, 28, 3, 1},
    {"dw_3x3_128_28_s8", 128, 128, 128, 28, 3, 1, true},
    {"dw_3x3_64_48_s2", 64, 64, 64, 48, 3, 2},
    {"dw_3x3_512_6", 512, 512, 512, 6, 3, 1},
    {"dw_5x5_96_14", 96, 96, 96, 14, 5, 1},
    {"dw_3x3_8_48", 8, 8, 8, 48, 3, 1},
    {"dw_3x3_24_28", 24, 24, 24, 28, 3, 1},
    {"dw_3x3_16_48", 16, 16, 16, 48, 3, 1},
    {"dw_3x3_96_56_s2", 96, 96, 96, 56, 3, 2},
    {"dw_3x3_32_24", 32, 32, 32, 24, 3, 1},
    {"dw_3x3_144_28", 144, 144, 144, 28, 3, 1},
    {"dw_3x3_64_112", 64, 64, 64, 112, 3, 1},
    {"dw_times2_64_28", 64, 128, 64, 28, 3, 1},
    {"groups_4_128_28", 128, 128, 4, 28, 3, 1},
    {"groups_32_128_28", 128, 128, 32, 28, 3, 1},
    {"matrix_1_1024_1024", 1024, 1024, 1, 1, 1, 1, false, false, false, 1},
    {"matrix_128_768_3072", 768, 3072, 1, 1, 1, 1, false, false, false, 128},
    {"matrix_512_512_512", 512, 512, 1, 1, 1, 1, false, false, false, 512},
    {"transposed_2x2_64_28", 64, 32, 1, 28, 2, 2, false, false, false, 0, true},
    {"transposed_4x4_128_14", 128, 64, 1, 14, 4, 2, false, false, false, 0, true},
    {"matrix_1_64_192_float", 64, 192, 1, 1, 1, 1, false, false, true, 1},
    {"matrix_1_64_10_float", 64, 10, 1, 1, 1, 1, false, false, true, 1},
};

}  // namespace

int main(int argc, char** argv) {
  for (const Shape& s : shapes) {
    const auto add = [&](const char* what, quern_cpu::Isa isa, Dot::Engine engine) {
      return benchmark::RegisterBenchmark((std::string(s.name) + "/" + what).c_str(), [&s, isa, engine](benchmark::State& state) { dot(state, s, isa, engine); })
          ->Arg(1)
          ->MeasureProcessCPUTime();
    };
    add("by_rule", quern_cpu::Isa::vnni, Dot::Engine::by_rule)->Arg(2);
    if (!s.transposed) add("onednn", quern_cpu::Isa::vnni, Dot::Engine::onednn);
    for (quern_cpu::Isa isa : {quern_cpu::Isa::vnni, quern_cpu::Isa::avx512, quern_cpu::Isa::avx2, quern_cpu::Isa::sse41})
      add(quern_cpu::name_of(isa), isa, Dot::Engine::own);
  }
  for (quern_cpu::Isa isa : {quern_cpu::Isa::vnni, quern_cpu::Isa::avx512, quern_cpu::Isa::avx2, quern_cpu::Isa::sse41})
    for (const auto& [m, k, n] : {std::array<int64_t, 3>{197, 64, 197}, {197, 197, 64}, {16, 32, 16}})
      benchmark::RegisterBenchmark(("product_" + std::to_string(m) + "_" + std::to_string(k) + "_" + std::to_string(n) + "/" + quern_cpu::name_of(isa)).c_str(),
                                   [m = m, k = k, n = n, isa](benchmark::State& state) { product(state, m, k, n, isa); })
          ->Arg(1)
          ->MeasureProcessCPUTime();
  for (const quern_cpu::Rows* rows : {&quern_cpu::scalar_rows(), &quern_cpu::avx2_rows(), &quern_cpu::avx512_rows()})
    for (const char* what : {"add", "mul", "table", "table_float", "linear_2x2", "map", "average_3x3", "max_3x3"})
      benchmark::RegisterBenchmark((std::string(what) + "_" + rows->name).c_str(), [what, rows](benchmark::State& state) { row(state, what, *rows); });
  for (bool to_last : {true, false})
    benchmark::RegisterBenchmark(to_last ? "to_channels_last_64_56" : "to_row_major_64_56", [to_last](benchmark::State& state) { turn(state, to_last); });
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
