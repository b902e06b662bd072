// Tiles and strips on AVX-512 without VNNI. Compiled for it; called only where the CPU has it.
#include <immintrin.h>

#include "plugins/cpu/dot_tile.hpp"

namespace quern_cpu {
namespace {

#include "plugins/cpu/dot_tile_v512.inl"

struct V : V512 {
  static Int dot(Int acc, Int x, Int w) { return _mm512_add_epi32(acc, _mm512_madd_epi16(x, w)); }
};

#include "plugins/cpu/dot_tile_impl.inl"
#include "plugins/cpu/depthwise_strip_impl.inl"

void prepare(const uint8_t* codes, int64_t n, uint8_t flip, int32_t zero_point, void* to) {
  auto* out = static_cast<uint8_t*>(to);
  const __m256i f = _mm256_set1_epi8(static_cast<char>(flip));
  const __m512i zero = _mm512_set1_epi16(static_cast<int16_t>(zero_point));
  for (int64_t i = 0; i < n; i += 32) {
    const __m256i c = _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + i)), f);
    _mm512_storeu_si512(out + 2 * i, _mm512_sub_epi16(_mm512_cvtepu8_epi16(c), zero));
  }
}

}  // namespace

const DotKernels& avx512_dot() {
  static constexpr DotKernels kernels = {
      "avx512", false, V::width, {0, V::rows_of[1], V::rows_of[2], V::rows_of[3], V::rows_of[4]}, tile, depthwise, prepare};
  return kernels;
}

}  // namespace quern_cpu
