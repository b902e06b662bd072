// Tiles and strips of 16-bit numbers on AVX512-VNNI: depthwise convolutions of that profile. Compiled for it; called only
// where the CPU has it.
#include <immintrin.h>

#include "plugins/cpu/dot_tile.hpp"

namespace quern_cpu {
namespace {

#include "plugins/cpu/dot_tile_v512.inl"

struct V : V512 {
  static Int dot(Int acc, Int x, Int w) {  // by hand: see dot_tile_vnni.cpp
    asm("vpdpwssd %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w));
    return acc;
  }
  static Int mac(Int acc, Wide a, Wide b) { return dot(acc, a, b); }
};

#include "plugins/cpu/dot_tile_impl.inl"
#include "plugins/cpu/depthwise_strip_impl.inl"

}  // namespace

const DotKernels& vnni_wide_dot() {
  static constexpr DotKernels kernels = {
      "vnni", false, V::width, {0, V::rows_of[1], V::rows_of[2], V::rows_of[3], V::rows_of[4]}, tile, depthwise, prepare_wide};
  return kernels;
}

}  // namespace quern_cpu
