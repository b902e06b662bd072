// The row kernel of depthwise.hpp on AVX2 with FMA. Compiled for them.
#include <immintrin.h>

#include "core/engine/depthwise_plan.hpp"

namespace quern {
namespace {

constexpr int lanes = 8, most = 6;  // six sums, weights and a column fit sixteen registers
struct V {
  __m256 v;
  static V load(const float* p) { return {_mm256_loadu_ps(p)}; }
  void add(V x, V w) { v = _mm256_fmadd_ps(x.v, w.v, v); }
  V clamped(float low, float high) const { return {_mm256_min_ps(_mm256_set1_ps(high), _mm256_max_ps(_mm256_set1_ps(low), v))}; }  // NaN stays
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void store_first(float* p, int64_t n) const {
    const __m256i at = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_maskstore_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), at), v);
  }
};

#include "core/engine/depthwise_rows.inl"

}  // namespace

void depthwise_rows_avx2(const DepthwiseF32& d, const float* x, float* y, int64_t first, int64_t last) { run_any(d, x, y, first, last); }

}  // namespace quern
