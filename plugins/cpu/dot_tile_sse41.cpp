// Tiles and strips on SSE4.1. Compiled for it; called only where the CPU has it.
#include <smmintrin.h>

#include "plugins/cpu/dot_tile.hpp"

namespace quern_cpu {
namespace {

#include "plugins/cpu/dot_tile_v128.inl"

struct V : V128 {
  static Int dot(Int acc, Int x, Int w) { return _mm_add_epi32(acc, _mm_madd_epi16(x, w)); }
};

#include "plugins/cpu/dot_tile_impl.inl"
#include "plugins/cpu/depthwise_strip_impl.inl"

void prepare(const uint8_t* codes, int64_t n, uint8_t flip, int32_t zero_point, void* to) {
  auto* out = static_cast<uint8_t*>(to);
  const __m128i f = _mm_set1_epi8(static_cast<char>(flip)), zero = _mm_set1_epi16(static_cast<int16_t>(zero_point)), none = _mm_setzero_si128();
  for (int64_t i = 0; i < n; i += 16) {
    const __m128i c = _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + i)), f);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 2 * i), _mm_sub_epi16(_mm_unpacklo_epi8(c, none), zero));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 2 * i + 16), _mm_sub_epi16(_mm_unpackhi_epi8(c, none), zero));
  }
}

}  // namespace

const DotKernels& sse41_dot() {
  static constexpr DotKernels kernels = {"sse41", false, V::width, {0, V::rows_of[1], V::rows_of[2], 0, 0}, tile, depthwise, prepare};
  return kernels;
}

}  // namespace quern_cpu
