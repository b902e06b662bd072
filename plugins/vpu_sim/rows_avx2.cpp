#include <immintrin.h>

#include <cstring>
#include <type_traits>

#include "plugins/vpu_sim/rows.hpp"

namespace quern_vpu {
namespace avx2 {
namespace {

struct Vec {
  using type = __m256i;
  static constexpr int lanes = 8, rows = 4;  // rows: of the left side at once
  static type zero() { return _mm256_setzero_si256(); }
  static type load(const int16_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static type spread(int32_t v) { return _mm256_set1_epi32(v); }
  static type add(type a, type b) { return _mm256_add_epi32(a, b); }
  static type products(type a, type b) { return _mm256_madd_epi16(a, b); }
  static void store(int32_t* p, type v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
};

#include "plugins/vpu_sim/rows_impl.inl"

}  // namespace

extern const Rows table{"avx2", codes, halves, dot, widen, depthwise, add, largest};

}  // namespace avx2
}  // namespace quern_vpu
