// Tiles on bytes with vpmaddubsw on AVX2, for weights of which no two products leave 16 bits (pairs_fit). Compiled for it; called only where the CPU
// has it.
#include <immintrin.h>

#include "plugins/cpu/dot_tile.hpp"

namespace quern_cpu {
namespace {

#include "plugins/cpu/dot_tile_v256.inl"

struct V : V256 {
  static Int dot(Int acc, Int x, Int w) { return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), _mm256_set1_epi16(1))); }
};

#include "plugins/cpu/dot_tile_impl.inl"

void prepare(const uint8_t* codes, int64_t n, uint8_t flip, int32_t, void* to) {
  auto* out = static_cast<uint8_t*>(to);
  const auto f = _mm256_set1_epi8(static_cast<char>(flip));
  for (int64_t i = 0; i < n; i += 32) _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + i)), f));
}

}  // namespace

const DotKernels& avx2_byte_dot() {
  static constexpr DotKernels kernels = {"avx2_bytes", true, V::width, {0, V::rows_of[1], V::rows_of[2], 0, 0}, tile, nullptr, prepare};
  return kernels;
}

}  // namespace quern_cpu
