// The row kernel of depthwise.hpp on AVX-512. Compiled for it.
#include <immintrin.h>

#include "core/engine/depthwise_plan.hpp"

namespace quern {
namespace {

constexpr int lanes = 16, most = 8;
struct V {
  __m512 v;
  static V load(const float* p) { return {_mm512_loadu_ps(p)}; }
  void add(V x, V w) { v = _mm512_fmadd_ps(x.v, w.v, v); }
  V clamped(float low, float high) const { return {_mm512_min_ps(_mm512_set1_ps(high), _mm512_max_ps(_mm512_set1_ps(low), v))}; }  // NaN stays
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store_first(float* p, int64_t n) const { _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1), v); }
};

#include "core/engine/depthwise_rows.inl"

}  // namespace

void depthwise_rows_avx512(const DepthwiseF32& d, const float* x, float* y, int64_t first, int64_t last) { run_any(d, x, y, first, last); }

}  // namespace quern
