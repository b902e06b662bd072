// Tiles on bytes with pmaddubsw on SSE4.1, for weights of which no two products leave 16 bits (pairs_fit). Compiled for it; called only where the CPU
// has it.
#include <smmintrin.h>

#include "plugins/cpu/dot_tile.hpp"

namespace quern_cpu {
namespace {

#include "plugins/cpu/dot_tile_v128.inl"

struct V : V128 {
  static Int dot(Int acc, Int x, Int w) { return _mm_add_epi32(acc, _mm_madd_epi16(_mm_maddubs_epi16(x, w), _mm_set1_epi16(1))); }
};

#include "plugins/cpu/dot_tile_impl.inl"

void prepare(const uint8_t* codes, int64_t n, uint8_t flip, int32_t, void* to) {
  auto* out = static_cast<uint8_t*>(to);
  const auto f = _mm_set1_epi8(static_cast<char>(flip));
  for (int64_t i = 0; i < n; i += 16) _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + i)), f));
}

}  // namespace

const DotKernels& sse41_byte_dot() {
  static constexpr DotKernels kernels = {"sse41_bytes", true, V::width, {0, V::rows_of[1], V::rows_of[2], 0, 0}, tile, nullptr, prepare};
  return kernels;
}

}  // namespace quern_cpu
