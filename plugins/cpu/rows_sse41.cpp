// The row kernels on SSE4.1. Compiled for it; called only where the CPU has it.
#include <smmintrin.h>

#include "plugins/cpu/rows.hpp"

namespace quern_cpu {
namespace {

struct V {
  using Int = __m128i;
  using Float = __m128;
  using Bytes = __m128i;
  static constexpr int64_t width = 4, byte_width = 16;
  static Int spread(int32_t v) { return _mm_set1_epi32(v); }
  static Float spread(float v) { return _mm_set1_ps(v); }
  static Int load(const uint8_t* p, uint8_t flip) {
    int32_t codes;
    __builtin_memcpy(&codes, p, 4);
    return _mm_cvtepu8_epi32(_mm_xor_si128(_mm_cvtsi32_si128(codes), _mm_set1_epi8(static_cast<char>(flip))));
  }
  static Int add(Int a, Int b) { return _mm_add_epi32(a, b); }
  static Int sub(Int a, Int b) { return _mm_sub_epi32(a, b); }
  static Int mul(Int a, Int b) { return _mm_mullo_epi32(a, b); }
  static Float to_float(Int a) { return _mm_cvtepi32_ps(a); }
  static Float add(Float a, Float b) { return _mm_add_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm_mul_ps(a, b); }
  static Float div(Float a, Float b) { return _mm_div_ps(a, b); }
  static Float min(Float a, Float b) { return _mm_min_ps(a, b); }
  static Float max(Float a, Float b) { return _mm_max_ps(a, b); }
  static Int rne(Float a) { return _mm_cvtps_epi32(_mm_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)); }
  static void store_codes(uint8_t* p, Int v, int64_t n) {
    // The lowest byte of each lane, signed or not.
    const __m128i pick = _mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    const auto all = static_cast<uint32_t>(_mm_cvtsi128_si32(_mm_shuffle_epi8(v, pick)));
    if (n == width) {
      __builtin_memcpy(p, &all, 4);
    } else {
      for (int64_t i = 0; i < n; ++i) p[i] = static_cast<uint8_t>(all >> (8 * i));
    }
  }
  static void store_floats(float* p, Float v, int64_t n) {
    if (n == width) {
      _mm_storeu_ps(p, v);
    } else {
      alignas(16) float all[4];
      _mm_store_ps(all, v);
      for (int64_t i = 0; i < n; ++i) p[i] = all[i];
    }
  }
  static Float gather_floats(const float* t, Int at) {
    return _mm_setr_ps(t[_mm_extract_epi32(at, 0)], t[_mm_extract_epi32(at, 1)], t[_mm_extract_epi32(at, 2)], t[_mm_extract_epi32(at, 3)]);
  }
  // As in rows_avx2.cpp: 16 shuffles of 16 entries.
  struct Table {
    explicit Table(const uint8_t* t) {
      for (int i = 0; i < 16; ++i) part[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(t + 16 * i));
    }
    Bytes operator()(Bytes x) const {
      const __m128i far = _mm_set1_epi8(0x70);
      __m128i y = _mm_setzero_si128();
      for (int i = 0; i < 16; ++i) {
        const __m128i near = _mm_adds_epu8(_mm_xor_si128(x, _mm_set1_epi8(static_cast<char>(16 * i))), far);
        y = _mm_or_si128(y, _mm_shuffle_epi8(part[i], near));
      }
      return y;
    }
    __m128i part[16];
  };
  static Bytes load_bytes(const uint8_t* p, uint8_t flip) {
    return _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)), _mm_set1_epi8(static_cast<char>(flip)));
  }
  static Bytes max_bytes(Bytes a, Bytes b) { return _mm_max_epu8(a, b); }
  static void store_bytes(uint8_t* p, Bytes v, uint8_t flip, int64_t n) {
    v = _mm_xor_si128(v, _mm_set1_epi8(static_cast<char>(flip)));
    if (n == byte_width) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v);
    } else {
      alignas(16) uint8_t all[16];
      _mm_store_si128(reinterpret_cast<__m128i*>(all), v);
      for (int64_t i = 0; i < n; ++i) p[i] = all[i];
    }
  }
};

#include "plugins/cpu/rows_impl.inl"

}  // namespace

const Rows& sse41_rows() {
  static constexpr Rows table = make_rows("sse41");
  return table;
}

}  // namespace quern_cpu
