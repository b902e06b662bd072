// The row kernels on AVX2. Compiled for it; called only where the CPU has it.
#include <immintrin.h>

#include "plugins/cpu/rows.hpp"

namespace quern_cpu {
namespace {

struct V {
  using Int = __m256i;
  using Float = __m256;
  using Bytes = __m256i;
  static constexpr int64_t width = 8, byte_width = 32;
  static Int spread(int32_t v) { return _mm256_set1_epi32(v); }
  static Float spread(float v) { return _mm256_set1_ps(v); }
  static Int load(const uint8_t* p, uint8_t flip) {
    const __m128i codes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    return _mm256_cvtepu8_epi32(_mm_xor_si128(codes, _mm_set1_epi8(static_cast<char>(flip))));
  }
  static Int add(Int a, Int b) { return _mm256_add_epi32(a, b); }
  static Int sub(Int a, Int b) { return _mm256_sub_epi32(a, b); }
  static Int mul(Int a, Int b) { return _mm256_mullo_epi32(a, b); }
  static Float to_float(Int a) { return _mm256_cvtepi32_ps(a); }
  static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
  static Float div(Float a, Float b) { return _mm256_div_ps(a, b); }
  static Float min(Float a, Float b) { return _mm256_min_ps(a, b); }
  static Float max(Float a, Float b) { return _mm256_max_ps(a, b); }
  static Int rne(Float a) { return _mm256_cvtps_epi32(_mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)); }
  static void store_codes(uint8_t* p, Int v, int64_t n) {
    // The lowest byte of each lane, signed or not.
    const __m256i pick = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                                          0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    const __m256i low = _mm256_shuffle_epi8(v, pick);
    const auto a = static_cast<uint32_t>(_mm_cvtsi128_si32(_mm256_castsi256_si128(low)));
    const auto b = static_cast<uint32_t>(_mm_cvtsi128_si32(_mm256_extracti128_si256(low, 1)));
    const uint64_t all = a | static_cast<uint64_t>(b) << 32;
    if (n == width) {
      __builtin_memcpy(p, &all, 8);
    } else {
      for (int64_t i = 0; i < n; ++i) p[i] = static_cast<uint8_t>(all >> (8 * i));
    }
  }
  static void store_floats(float* p, Float v, int64_t n) {
    if (n == width) {
      _mm256_storeu_ps(p, v);
    } else {
      alignas(32) float all[8];
      _mm256_store_ps(all, v);
      for (int64_t i = 0; i < n; ++i) p[i] = all[i];
    }
  }
  static Float gather_floats(const float* t, Int at) { return _mm256_i32gather_ps(t, at, 4); }
  // 16 shuffles of 16 entries: the distance to a part's first entry is 0..15 there, and has its top bit set everywhere else.
  struct Table {
    explicit Table(const uint8_t* t) {
      for (int i = 0; i < 16; ++i) part[i] = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(t + 16 * i)));
    }
    Bytes operator()(Bytes x) const {
      const __m256i far = _mm256_set1_epi8(0x70);
      __m256i y = _mm256_setzero_si256();
      for (int i = 0; i < 16; ++i) {
        const __m256i near = _mm256_adds_epu8(_mm256_xor_si256(x, _mm256_set1_epi8(static_cast<char>(16 * i))), far);
        y = _mm256_or_si256(y, _mm256_shuffle_epi8(part[i], near));
      }
      return y;
    }
    __m256i part[16];
  };
  static Bytes load_bytes(const uint8_t* p, uint8_t flip) {
    return _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)), _mm256_set1_epi8(static_cast<char>(flip)));
  }
  static Bytes max_bytes(Bytes a, Bytes b) { return _mm256_max_epu8(a, b); }
  static void store_bytes(uint8_t* p, Bytes v, uint8_t flip, int64_t n) {
    v = _mm256_xor_si256(v, _mm256_set1_epi8(static_cast<char>(flip)));
    if (n == byte_width) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
    } else {
      alignas(32) uint8_t all[32];
      _mm256_store_si256(reinterpret_cast<__m256i*>(all), v);
      for (int64_t i = 0; i < n; ++i) p[i] = all[i];
    }
  }
};

#include "plugins/cpu/rows_impl.inl"

}  // namespace

const Rows& avx2_rows() {
  static constexpr Rows table = make_rows("avx2");
  return table;
}

}  // namespace quern_cpu
