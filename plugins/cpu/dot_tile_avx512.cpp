// Tiles and strips on AVX-512 without VNNI. Compiled for it; called only where the CPU has it.
#include <immintrin.h>

#include "plugins/cpu/dot_tile.hpp"

namespace quern_cpu {
namespace {

#include "plugins/cpu/dot_tile_v512.inl"

struct V : V512 {
  static Int dot(Int acc, Int x, Int w) { return _mm512_add_epi32(acc, _mm512_madd_epi16(x, w)); }
  static Int mac(Int acc, Wide a, Wide b) { return dot(acc, a, b); }
};

#include "plugins/cpu/dot_tile_impl.inl"
#include "plugins/cpu/depthwise_strip_impl.inl"

}  // namespace

const DotKernels& avx512_dot() {
  static constexpr DotKernels kernels = {
      "avx512", false, V::width, {0, V::rows_of[1], V::rows_of[2], V::rows_of[3], V::rows_of[4]}, tile, depthwise, prepare_wide};
  return kernels;
}

}  // namespace quern_cpu
