#include "plugins/gna_sim/sums.hpp"

#include <immintrin.h>

namespace quern_gna {

int32_t saturating_sum(const int16_t* x, const int16_t* w, int64_t n, int64_t start, int64_t every, uint64_t& saturated) {
  int64_t sum = start;
  const auto limit = [&] {
    const int64_t within = sum < INT32_MIN ? INT32_MIN : sum > INT32_MAX ? INT32_MAX : sum;
    saturated += within != sum;
    sum = within;
  };
  int64_t k = 0;
  // Whole blocks first: only their ends are looked at.
  for (; every > 0 && n - k >= every; limit())
    for (const int64_t end = k + every; k < end; ++k) sum += int64_t{x[k]} * w[k];
  for (; k < n; ++k) sum += int64_t{x[k]} * w[k];
  limit();
  return static_cast<int32_t>(sum);
}

void plain_sums(const int16_t* x, const int16_t* w, int64_t pitch, int rows, int64_t n, int32_t* sums) {
  for (int r = 0; r < rows; ++r) {
    int32_t sum = 0;
    for (int64_t k = 0; k < n; ++k) sum += int32_t{x[k]} * w[r * pitch + k];
    sums[r] = sum;
  }
}

namespace {

__attribute__((target("avx2"))) inline int32_t total(__m256i v) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
  return _mm_cvtsi128_si32(s);
}

// Pairs of products are added in 32 bits: as no sum can leave them, no pair can.
template <int rows>
__attribute__((target("avx2"))) void avx2_sums(const int16_t* x, const int16_t* w, int64_t pitch, int64_t n, int32_t* sums) {
  __m256i acc[rows];
  for (int r = 0; r < rows; ++r) acc[r] = _mm256_setzero_si256();
  for (int64_t k = 0; k < n; k += 16) {
    const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + k));
    for (int r = 0; r < rows; ++r) {
      const __m256i row = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(w + r * pitch + k));
      acc[r] = _mm256_add_epi32(acc[r], _mm256_madd_epi16(v, row));
    }
  }
  for (int r = 0; r < rows; ++r) sums[r] = total(acc[r]);
}

bool has_avx2() {
  static const bool yes = __builtin_cpu_supports("avx2");
  return yes;
}

}  // namespace

void exact_sums(const int16_t* x, const int16_t* w, int64_t pitch, int rows, int64_t n, int32_t* sums) {
  if (!has_avx2()) return plain_sums(x, w, pitch, rows, n, sums);
  switch (rows) {
    case 1: return avx2_sums<1>(x, w, pitch, n, sums);
    case 2: return avx2_sums<2>(x, w, pitch, n, sums);
    case 3: return avx2_sums<3>(x, w, pitch, n, sums);
    default: return avx2_sums<4>(x, w, pitch, n, sums);
  }
}

}  // namespace quern_gna
