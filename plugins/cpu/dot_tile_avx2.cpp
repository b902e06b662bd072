// Tiles and strips on AVX2 and FMA. Compiled for them; called only where the CPU has them.
#include <immintrin.h>

#include "plugins/cpu/dot_tile.hpp"

namespace quern_cpu {
namespace {

#include "plugins/cpu/dot_tile_v256.inl"

struct V : V256 {
  static Int dot(Int acc, Int x, Int w) { return _mm256_add_epi32(acc, _mm256_madd_epi16(x, w)); }
};

#include "plugins/cpu/dot_tile_impl.inl"
#include "plugins/cpu/depthwise_strip_impl.inl"

void prepare(const uint8_t* codes, int64_t n, uint8_t flip, int32_t zero_point, void* to) {
  auto* out = static_cast<uint8_t*>(to);
  const __m128i f = _mm_set1_epi8(static_cast<char>(flip));
  const __m256i zero = _mm256_set1_epi16(static_cast<int16_t>(zero_point));
  for (int64_t i = 0; i < n; i += 16) {
    const __m128i c = _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + i)), f);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 2 * i), _mm256_sub_epi16(_mm256_cvtepu8_epi16(c), zero));
  }
}

}  // namespace

const DotKernels& avx2_dot() {
  static constexpr DotKernels kernels = {"avx2", false, V::width, {0, V::rows_of[1], V::rows_of[2], 0, 0}, tile, depthwise, prepare};
  return kernels;
}

}  // namespace quern_cpu
