// Data for the micro benchmarks: the same numbers at every run. An activation is 64 x 56 x 56, 200,704 elements: in f32 it
// fits a second-level cache of 1 MiB, as most activations do when the next node reads them.
#pragma once
#include <benchmark/benchmark.h>

#include <random>

#include "core/base/tensor.hpp"

namespace quern::bench {

inline const Dims activation{1, 64, 56, 56};

// Uniform; of integers low..high-1.
inline void fill(Tensor& t, double low, double high) {
  std::mt19937 random(1);
  const auto each = [&](auto values) {
    for (auto& v : values)
      v = static_cast<std::remove_reference_t<decltype(v)>>(low + (high - low) * (static_cast<double>(random() >> 8) / 16777216.0));
  };
  switch (t.type()) {
    case DType::f32: return each(t.mutable_values<float>());
    case DType::s32: return each(t.mutable_values<int32_t>());
    case DType::s64: return each(t.mutable_values<int64_t>());
    case DType::s8: return each(t.mutable_values<int8_t>());
    default: return each(t.mutable_values<uint8_t>());  // u8, boolean
  }
}
inline Tensor uniform(DType type, Dims dims, double low, double high) {
  Tensor t(type, std::move(dims));
  fill(t, low, high);
  return t;
}
// What activations look like before a Relu: normal around 0.
inline Tensor normal(const Dims& dims) {
  std::mt19937 random(1);
  std::normal_distribution<float> any;
  Tensor t(DType::f32, dims);
  for (float& v : t.mutable_values<float>()) v = any(random);
  return t;
}

// The two rates of a line, per iteration: elements and bytes read and written.
inline void rates(benchmark::State& state, int64_t elements, int64_t bytes) {
  state.SetItemsProcessed(state.iterations() * elements);
  state.SetBytesProcessed(state.iterations() * bytes);
}
// Multiply-accumulates count twice.
inline void operations(benchmark::State& state, int64_t macs) {
  state.counters["op/s"] = benchmark::Counter(2.0 * static_cast<double>(macs), benchmark::Counter::kIsIterationInvariantRate);
}

}  // namespace quern::bench
