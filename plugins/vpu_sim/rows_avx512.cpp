#include <immintrin.h>

#include <cstring>
#include <type_traits>

#include "plugins/vpu_sim/rows.hpp"

namespace quern_vpu {
namespace avx512 {
namespace {

struct Vec {
  using type = __m512i;
  static constexpr int lanes = 16, rows = 8;  // rows: of the left side at once
  static type zero() { return _mm512_setzero_si512(); }
  static type load(const int16_t* p) { return _mm512_loadu_si512(p); }
  static type spread(int32_t v) { return _mm512_set1_epi32(v); }
  static type add(type a, type b) { return _mm512_add_epi32(a, b); }
  static type products(type a, type b) { return _mm512_madd_epi16(a, b); }
  static void store(int32_t* p, type v) { _mm512_storeu_si512(p, v); }
};

#include "plugins/vpu_sim/rows_impl.inl"

}  // namespace

extern const Rows table{"avx512", codes, halves, dot, widen, depthwise, add, largest};

}  // namespace avx512
}  // namespace quern_vpu
