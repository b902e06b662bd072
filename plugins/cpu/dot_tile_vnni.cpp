// Tiles on AVX512-VNNI. Compiled for it; called only where the CPU has it.
#include <immintrin.h>

#include "plugins/cpu/dot_tile.hpp"

namespace quern_cpu {
namespace {

#include "plugins/cpu/dot_tile_v512.inl"

struct V : V512 {
  // By hand: of the intrinsic GCC 12 makes a copy of the sum each time and runs out of registers.
  static Int dot(Int acc, Int x, Int w) {
    asm("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w));
    return acc;
  }
};

#include "plugins/cpu/dot_tile_impl.inl"

void prepare(const uint8_t* codes, int64_t n, uint8_t flip, int32_t, void* to) {
  auto* out = static_cast<uint8_t*>(to);
  const __m512i f = _mm512_set1_epi8(static_cast<char>(flip));
  for (int64_t i = 0; i < n; i += 64) _mm512_storeu_si512(out + i, _mm512_xor_si512(_mm512_loadu_si512(codes + i), f));
}

}  // namespace

const DotKernels& vnni_dot() {
  static constexpr DotKernels kernels = {
      "vnni", true, V::width, {0, V::rows_of[1], V::rows_of[2], V::rows_of[3], V::rows_of[4]}, tile, nullptr, prepare};
  return kernels;
}

}  // namespace quern_cpu
