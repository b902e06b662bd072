#include <immintrin.h>

#include <cstring>
#include <type_traits>

#include "plugins/vpu_sim/rows.hpp"

namespace quern_vpu {
namespace base {
namespace {

struct Vec {
  using type = __m128i;
  static constexpr int lanes = 4, rows = 2;  // rows: of the left side at once
  static type zero() { return _mm_setzero_si128(); }
  static type load(const int16_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
  static type spread(int32_t v) { return _mm_set1_epi32(v); }
  static type add(type a, type b) { return _mm_add_epi32(a, b); }
  static type products(type a, type b) { return _mm_madd_epi16(a, b); }
  static void store(int32_t* p, type v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v); }
};

#include "plugins/vpu_sim/rows_impl.inl"

}  // namespace

extern const Rows table{"base", codes, halves, dot, widen, depthwise, add, largest};

}  // namespace base
}  // namespace quern_vpu
