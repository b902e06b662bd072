// Number formats and rounding, one thread, on 64 x 56 x 56 values. quantize, dequantize and fake_quantize are ONNX's to the
// bit, and the definition that the engine's borders are tested against; exp_array and erf_array err by at most 2 ulp of f32, portable::*
// by at most 5 ulp of double (core/numeric/portable_math.hpp). A stage program is run one element a call, as the interpreter
// does.
#include "bench/micro/data.hpp"
#include "core/numeric/contract.hpp"
#include "core/numeric/portable_erf.hpp"
#include "core/numeric/portable_math.hpp"
#include "core/numeric/quantization.hpp"
#include "core/rules/contract_json.hpp"

namespace quern::bench {
namespace {

QuantParams params(bool channels) {
  const size_t n = channels ? 64 : 1;
  return {make_format(8, false, false), channels ? 1 : -1, std::vector<float>(n, 0.05f), std::vector<int64_t>(n, 113)};
}
using Convert = void (*)(const TensorView&, const QuantParams&, const TensorView&);

void convert(benchmark::State& state, Convert f, DType from, DType to, bool channels) {
  Tensor x = from == DType::f32 ? normal(activation) : uniform(from, activation, 0, 256), y(to, activation);
  const Dims strides = row_major_strides(activation);
  const QuantParams p = params(channels);
  for (auto _ : state) f({x.mutable_bytes(), from, activation, strides}, p, {y.mutable_bytes(), to, activation, strides});
  rates(state, x.count(), static_cast<int64_t>(x.bytes() + y.bytes()));
}
BENCHMARK_CAPTURE(convert, quantize, quantize, DType::f32, DType::u8, false);
BENCHMARK_CAPTURE(convert, quantize_channels, quantize, DType::f32, DType::u8, true);
BENCHMARK_CAPTURE(convert, dequantize, dequantize, DType::u8, DType::f32, false);
BENCHMARK_CAPTURE(convert, dequantize_channels, dequantize, DType::u8, DType::f32, true);
BENCHMARK_CAPTURE(convert, fake_quantize, fake_quantize, DType::f32, DType::f32, false);
BENCHMARK_CAPTURE(convert, fake_quantize_channels, fake_quantize, DType::f32, DType::f32, true);

template <class F>
void function(benchmark::State& state, F f) {
  const Tensor x = uniform(DType::f32, activation, 0.01, 8);
  Tensor y(DType::f32, activation);
  for (auto _ : state) {
    f(x.values<float>().data(), y.mutable_values<float>().data(), x.count());
    benchmark::ClobberMemory();
  }
  rates(state, x.count(), static_cast<int64_t>(2 * x.bytes()));
}
template <float (*f)(float)>
void each(const float* in, float* out, long n) {
  for (long i = 0; i < n; ++i) out[i] = f(in[i]);
}
BENCHMARK_CAPTURE(function, exp_array, portable::exp_array);
BENCHMARK_CAPTURE(function, exp_array_scalar, portable::exp_array_scalar);
BENCHMARK_CAPTURE(function, erf_array, portable::erf_array);
BENCHMARK_CAPTURE(function, erf_array_scalar, portable::erf_array_scalar);
BENCHMARK_CAPTURE(function, sigmoid_array, portable::sigmoid_array);
BENCHMARK_CAPTURE(function, tanh_array, portable::tanh_array);
BENCHMARK_CAPTURE(function, tanh_array_scalar, portable::tanh_array_scalar);
BENCHMARK_CAPTURE(function, exp, each<portable::exp>);
BENCHMARK_CAPTURE(function, log, each<portable::log>);
BENCHMARK_CAPTURE(function, tanh, each<portable::tanh>);
BENCHMARK_CAPTURE(function, erf, each<portable::erf>);
BENCHMARK_CAPTURE(function, sigmoid, each<portable::sigmoid>);
BENCHMARK_CAPTURE(function, half, [](const float* in, float* out, long n) {
  for (long i = 0; i < n; ++i) out[i] = from_half(to_half(in[i]));
});

struct Tables : StageOperands {
  std::map<std::string, Tensor> all;
  const Tensor* table(const std::string& name) const override { return all.count(name) ? &all.at(name) : nullptr; }
  bool present(const std::string& name) const override { return all.count(name) != 0; }
};

void stages(benchmark::State& state, const char* post) {
  Tables tables;
  tables.all = {{"bias_f32", uniform(DType::f32, {64}, -1e5, 1e5)}, {"multiplier", uniform(DType::f32, {64}, 1e-4, 2e-4)},
                {"output_zero_point", Tensor::scalar(101.f)}, {"integer_multiplier", uniform(DType::s64, {64}, 1 << 20, 1 << 21)},
                {"shift", Tensor::scalar<int64_t>(34)}};
  const Contract contract = parse_contract("bench", parse_json(std::string(R"({"form": "dot", "post": )") + post + "}", "bench"), "bench");
  const StageProgram program("bench", contract.post, tables, {}, 64);
  const Tensor accumulators = uniform(DType::s32, {4096}, -1e6, 1e6);
  for (auto _ : state)
    for (int64_t i = 0; i < 4096; ++i) benchmark::DoNotOptimize(program.run({false, accumulators.values<int32_t>()[static_cast<size_t>(i)], 0}, i % 64));
  state.SetItemsProcessed(state.iterations() * 4096);
}
BENCHMARK_CAPTURE(stages, requantize_f32_5, R"([{"i2f32": {}}, {"fadd32": "bias_f32"}, {"fmul32": "multiplier"}, {"fadd32": "output_zero_point"},
  {"f2i": {"round": "half_even", "low": 0, "high": 255}}])");
BENCHMARK_CAPTURE(stages, requantize_shift_4, R"([{"mul": "integer_multiplier"}, {"shr": ["shift", {"round": "half_up"}]}, {"add": 101}, {"clamp": [0, 255]}])");

}  // namespace
}  // namespace quern::bench
