// Tiles on bytes with vpmaddubsw on AVX-512, for weights of which no two products leave 16 bits (pairs_fit). Compiled for it; called only where the CPU
// has it.
#include <immintrin.h>

#include "plugins/cpu/dot_tile.hpp"

namespace quern_cpu {
namespace {

#include "plugins/cpu/dot_tile_v512.inl"

struct V : V512 {
  static Int dot(Int acc, Int x, Int w) { return _mm512_add_epi32(acc, _mm512_madd_epi16(_mm512_maddubs_epi16(x, w), _mm512_set1_epi16(1))); }
};

#include "plugins/cpu/dot_tile_impl.inl"

void prepare(const uint8_t* codes, int64_t n, uint8_t flip, int32_t, void* to) {
  auto* out = static_cast<uint8_t*>(to);
  const auto f = _mm512_set1_epi8(static_cast<char>(flip));
  for (int64_t i = 0; i < n; i += 64) _mm512_storeu_si512(reinterpret_cast<__m512i*>(out + i), _mm512_xor_si512(_mm512_loadu_si512(reinterpret_cast<const __m512i*>(codes + i)), f));
}

}  // namespace

const DotKernels& avx512_byte_dot() {
  static constexpr DotKernels kernels = {"avx512_bytes", true, V::width, {0, V::rows_of[1], V::rows_of[2], V::rows_of[3], V::rows_of[4]}, tile, nullptr, prepare};
  return kernels;
}

}  // namespace quern_cpu
