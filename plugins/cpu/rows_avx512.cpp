// The row kernels on AVX-512 (F, BW, VL, DQ). Compiled for it; called only where the CPU has it.
#include <immintrin.h>

#include "plugins/cpu/rows.hpp"

namespace quern_cpu {
namespace {

struct V {
  using Int = __m512i;
  using Float = __m512;
  using Bytes = __m512i;
  static constexpr int64_t width = 16, byte_width = 64;
  static Int spread(int32_t v) { return _mm512_set1_epi32(v); }
  static Float spread(float v) { return _mm512_set1_ps(v); }
  static Int load(const uint8_t* p, uint8_t flip) {
    const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm512_cvtepu8_epi32(_mm_xor_si128(codes, _mm_set1_epi8(static_cast<char>(flip))));
  }
  static Int add(Int a, Int b) { return _mm512_add_epi32(a, b); }
  static Int sub(Int a, Int b) { return _mm512_sub_epi32(a, b); }
  static Int mul(Int a, Int b) { return _mm512_mullo_epi32(a, b); }
  static Float to_float(Int a) { return _mm512_cvt_roundepi32_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float div(Float a, Float b) { return _mm512_div_ps(a, b); }
  static Float min(Float a, Float b) { return _mm512_min_ps(a, b); }
  static Float max(Float a, Float b) { return _mm512_max_ps(a, b); }
  static Int rne(Float a) { return _mm512_cvt_roundps_epi32(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static void store_codes(uint8_t* p, Int v, int64_t n) {
    _mm512_mask_cvtepi32_storeu_epi8(p, static_cast<__mmask16>(n >= width ? 0xffff : (1u << n) - 1), v);
  }
  static void store_floats(float* p, Float v, int64_t n) {
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>(n >= width ? 0xffff : (1u << n) - 1), v);
  }
  static Float gather_floats(const float* t, Int at) { return _mm512_i32gather_ps(at, t, 4); }
  // 16 shuffles of 16 entries: the distance to a part's first entry is 0..15 there, and has its top bit set everywhere else.
  struct Table {
    explicit Table(const uint8_t* t) {
      for (int i = 0; i < 16; ++i) part[i] = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(t + 16 * i)));
    }
    Bytes operator()(Bytes x) const {
      const __m512i far = _mm512_set1_epi8(0x70);
      __m512i y = _mm512_setzero_si512();
      for (int i = 0; i < 16; ++i) {
        const __m512i near = _mm512_adds_epu8(_mm512_xor_si512(x, _mm512_set1_epi8(static_cast<char>(16 * i))), far);
        y = _mm512_or_si512(y, _mm512_shuffle_epi8(part[i], near));
      }
      return y;
    }
    __m512i part[16];
  };
  static Bytes load_bytes(const uint8_t* p, uint8_t flip) {
    return _mm512_xor_si512(_mm512_loadu_si512(p), _mm512_set1_epi8(static_cast<char>(flip)));
  }
  static Bytes max_bytes(Bytes a, Bytes b) { return _mm512_max_epu8(a, b); }
  static void store_bytes(uint8_t* p, Bytes v, uint8_t flip, int64_t n) {
    v = _mm512_xor_si512(v, _mm512_set1_epi8(static_cast<char>(flip)));
    _mm512_mask_storeu_epi8(p, n >= byte_width ? ~__mmask64{0} : (__mmask64{1} << n) - 1, v);
  }
};

#include "plugins/cpu/rows_impl.inl"

}  // namespace

const Rows& avx512_rows() {
  static constexpr Rows table = make_rows("avx512");
  return table;
}

}  // namespace quern_cpu
